//! Where the service stands, as its clients see it.

use std::net::IpAddr;
use std::sync::OnceLock;

use actix_web::HttpRequest;
use actix_web::http::header::HOST;
use actix_web::web::Bytes;
use ipnet::IpNet;

use crate::domain::rules::Limits;

/// Where the service stands.
#[derive(Clone, Debug)]
pub struct Site {
    /// What links begin with; `None` for the request's own `Host`. Setting `api.public_url`.
    pub public_url: Option<String>,
    /// Setting `api.region`.
    pub region: String,
    /// Whose `X-Forwarded-For` counts. Setting `api.trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// Setting `access.token_lifetime_s`, in milliseconds.
    pub token_lifetime_ms: u64,
    /// The newest microversion of the native interface: 2 and this. Setting `nova.microversion_max`.
    pub microversion_max: u16,
    /// What a project may hold, where it has no quota of its own. Settings `quota.*`.
    pub limits: Limits,
    /// With `--dev`, its project, which is the only one.
    pub dev_project: Option<&'static str>,
    /// With `--dev` and its well-known credentials, their token. No other token may ever stand here: the explorer's
    /// page shows it to everybody.
    pub dev_token: Option<&'static str>,
    /// What `/openapi.json` answers, once it was asked for.
    pub document: OnceLock<Bytes>,
}

impl Site {
    /// The address a request came from: the peer's, or where that is a trusted proxy, the nearest one in
    /// `X-Forwarded-For` that is not.
    #[must_use]
    pub fn source_ip(&self, peer: IpAddr, forwarded_for: &str) -> IpAddr {
        let is_trusted = |ip: &IpAddr| self.trusted_proxies.iter().any(|range| range.contains(ip));
        let mut nearest = peer;
        for hop in forwarded_for.rsplit(',') {
            if !is_trusted(&nearest) {
                break;
            }
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            nearest = ip.to_canonical();
        }
        nearest
    }

    /// What links begin with: the setting, or the host that the client asked.
    #[must_use]
    pub fn base_url(&self, request: &HttpRequest) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let is_host = |host: &&str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte))
        };
        match host.filter(is_host) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", request.app_config().local_addr()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_far_as_those_who_name_it_are_trusted() {
        let limits = Limits { groups_per_project: 0, members_per_group: 0 };
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let site = Site {
            public_url: None,
            region: String::new(),
            trusted_proxies,
            token_lifetime_ms: 0,
            microversion_max: 60,
            limits,
            dev_project: None,
            dev_token: None,
            document: OnceLock::new(),
        };
        for (peer, forwarded_for, expected) in [
            ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "203.0.113.9, 198.51.100.1,10.2.3.4", "198.51.100.1"),
            ("10.0.0.1", "10.9.9.9", "10.9.9.9"),
            ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
            ("::1", "2001:db8::7", "2001:db8::7"),
            ("::1", "\u{fffd}, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            let found = site.source_ip(peer.parse().unwrap(), forwarded_for);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded_for:?}");
        }
    }
}
