//! What the system tells the process: to stop (SIGTERM, SIGINT, its parent going away), or to read the accounts again
//! (SIGHUP).

use std::io::{self, Read as _};
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Comes back on SIGTERM or SIGINT, or, with `is_parent_watched`, when standard input closes.
///
/// # Errors
/// When the system does not let the process wait for signals.
pub fn stop(is_parent_watched: bool) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let parent_gone = if is_parent_watched { Some(standard_input_closes()?) } else { None };
    Ok(async move {
        let reason = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = ended(parent_gone) => "standard input closed",
        };
        tracing::info!(reason, "stopping");
    })
}

/// SIGHUP, each time.
#[derive(Debug)]
pub struct HangUp(Signal);

impl HangUp {
    /// From now on SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// When the system does not let the process wait for signals.
    pub fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }
}

/// The next SIGHUP; never, where nobody waits for one.
pub async fn next(hang_up: Option<&mut HangUp>) {
    let next = match hang_up {
        Some(HangUp(signal)) => signal.recv().await,
        None => None,
    };
    if next.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn ended(parent_gone: Option<oneshot::Receiver<()>>) {
    match parent_gone {
        // The thread drops its end when it is done, which is the signal.
        Some(gone) => drop(gone.await),
        None => std::future::pending().await,
    }
}

/// A thread of its own reads standard input to its end: an async reader would hold up the end of the process.
fn standard_input_closes() -> io::Result<oneshot::Receiver<()>> {
    let (closed, gone) = oneshot::channel();
    let read = move || {
        let mut ignored = [0; 1024];
        loop {
            match io::stdin().read(&mut ignored) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        drop(closed);
    };
    thread::Builder::new().name("parent".to_owned()).spawn(read)?;
    Ok(gone)
}
