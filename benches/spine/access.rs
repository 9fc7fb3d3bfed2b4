//! What it costs to know a caller and to decide: decisions in a second, and the CPU of a create that is signed and
//! permitted by policies against one that anybody may make.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy;
use ecs_groupd::access::policy::condition::Circumstances;
use ecs_groupd::access::policy::document::PolicyDocument;
use ecs_groupd::access::principal::{Domain, User};
use ecs_groupd::clock::Clock;
use ecs_groupd::domain::id::{DomainId, UserId};
use ecs_groupd::identities::dev;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::load::{Ask, CREATE_BODY};

const DOCUMENTS: usize = 5;
const STATEMENTS: usize = 8;
const ACTIONS: usize = 5;
/// The access key of the user who may do everything, and that of the one who may do nothing.
pub const ALICE: &str = "BENCHACCESSKEY000001";
pub const MALLORY: &str = "BENCHACCESSKEY000002";
const SECRET_KEY: &str = "bench-secret-key-00000000000000000000001";

/// A document of 8 statements of 5 actions and one condition each. All of them name the create; the conditions of the
/// Allows hold where `is_met`, those of the Denies never do.
fn document(is_met: bool) -> String {
    let actions: Vec<String> = (1..ACTIONS).map(|nth| format!("\"ecs:cloudServers:action{nth}*\"")).collect();
    let actions = actions.join(",");
    let statements = (0..STATEMENTS).map(|nth| {
        let (effect, user) = match (nth % 4, is_met) {
            (3, _) => ("Deny", "mallory"),
            (_, true) => ("Allow", "alice"),
            (_, false) => ("Allow", "bob"),
        };
        format!(
            r#"{{"Effect":"{effect}","Action":[{actions},"ecs:cloudServers:create*"],"Condition":{{"StringEquals":{{"g:UserName":["{user}"]}}}}}}"#
        )
    });
    format!(r#"{{"Version":"5.0","Statement":[{}]}}"#, statements.collect::<Vec<_>>().join(","))
}

/// Decisions in a second on one core, the worst of the two kinds of documents.
pub fn decisions(seconds: u32) -> Result<(), Error> {
    println!(
        "decisions on one core: {DOCUMENTS} policies of {STATEMENTS} statements of {ACTIONS} actions and a condition\n"
    );
    let domain = Domain { domain_id: DomainId::from_bytes([1; 16]), name: "acme".to_owned() };
    let user = User::new(UserId::from_bytes([2; 16]), "alice".to_owned(), domain, false);
    let circumstances = Circumstances {
        action: Action::CreateServerGroup,
        user: &user,
        project_name: Some("region-1"),
        source_ip: Some([127, 0, 0, 1].into()),
        now: Clock::System.now(),
    };
    for (name, is_met) in [("allowed", true), ("denied: no condition holds", false)] {
        let source = document(is_met);
        let documents: Vec<Arc<PolicyDocument>> = (0..DOCUMENTS)
            .map(|nth| PolicyDocument::parse(&format!("p{nth}"), &source).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let (started, deadline) = (Instant::now(), Duration::from_secs(seconds.into()));
        let mut count = 0_u64;
        while started.elapsed() < deadline {
            for _ in 0..1_000 {
                black_box(policy::decide(black_box(&documents), black_box(&circumstances)));
            }
            count += 1_000;
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        println!("  {name:<28} {:>6.2} million/s", rate / 1e6);
    }
    println!();
    Ok(())
}

/// A file of accounts with a user, its key and its policies, and one without any; the project is the one of `--dev`.
pub fn identities(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let policies: Vec<String> = (0..DOCUMENTS)
        .map(|nth| format!("[[domain.policy]]\nname = 'p{nth}'\ndocument = '''{}'''\n", document(true)))
        .collect();
    let names: Vec<String> = (0..DOCUMENTS).map(|nth| format!("'p{nth}'")).collect();
    let text = format!(
        "[[domain]]
name = 'acme'
root = {{ name = 'admin' }}
project = [{{ name = '{}', id = '{}' }}]
[[domain.user]]
name = 'alice'
access_key = [{{ access = '{ALICE}', secret = '{SECRET_KEY}' }}]
[[domain.user]]
name = 'mallory'
access_key = [{{ access = '{MALLORY}', secret = '{SECRET_KEY}' }}]
[[domain.user_group]]
name = 'all'
users = ['alice']
[[domain.grant]]
user_group = 'all'
scope = 'all_projects'
policies = [{}]
{}",
        dev::PROJECT_NAME,
        dev::PROJECT_ID,
        names.join(", "),
        policies.concat()
    );
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// The headers of a signed create. It is good for 15 minutes.
pub fn signed_headers(access_key: &str) -> Result<Vec<(String, String)>, Error> {
    let now = Clock::System.now().to_iso8601();
    let date: String = now.chars().filter(|character| !"-:".contains(*character)).collect();
    let path = Ask::Create.path();
    let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
    let names = "content-type;x-sdk-date";
    let canonical = format!(
        "POST\n{path}/\n\ncontent-type:application/json\nx-sdk-date:{date}\n\n{names}\n{}",
        hex(&Sha256::digest(CREATE_BODY))
    );
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical)));
    let signature = Hmac::<Sha256>::new_from_slice(SECRET_KEY.as_bytes())?.chain_update(to_sign).finalize();
    let signature = hex(&signature.into_bytes());
    let authorization =
        format!("SDK-HMAC-SHA256 Access={access_key}, SignedHeaders={names}, Signature={signature}");
    Ok(vec![("X-Sdk-Date".to_owned(), date), ("Authorization".to_owned(), authorization)])
}
