//! AK/SK signatures: what the vendor's clients make verifies, and nothing else does.

use std::fmt::Write as _;

use ecs_groupd::access::signature::{SIGNED_HEADERS_MAX, Signature, SignatureError, SignedRequest};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::dev;
use ecs_groupd::identities::lockout::LOCK_MS;
use ecs_groupd::settings::{Networks, Settings};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::{
    Answer, Client, NOW, Signer, TestApp, create_body, group_path, groups_path, records, send_raw,
};

const ACCESS_KEY: &str = "AKTESTEXAMPLE0000001";
const SECRET_KEY: &str = "SKtestExampleSecretKey00000000000000000001";
/// [`NOW`], as a signature writes it.
const DATE: &str = "20260102T030405Z";
/// Whose signatures the vectors are.
const TEST: Signer<'static> = Signer { access_key: ACCESS_KEY, secret_key: SECRET_KEY, date: DATE };
const SECOND_MS: u64 = 1_000;
const SKEW_MS: u64 = 15 * 60 * SECOND_MS;
const GROUPS: &str = "/v1/0123456789abcdef0123456789abcdef/cloudservers/os-server-groups";
const CREATE: &str = r#"{"server_group": {"name": "test", "policies": ["anti-affinity"]}}"#;

/// A request as it came.
#[derive(Clone, Debug)]
struct Signed {
    method: String,
    path: String,
    query: String,
    /// The names in lower case.
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl SignedRequest for Signed {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_slice())
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Signed {
    fn new(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers =
            headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_bytes().to_vec())).collect();
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        Self { method, path, query, headers, body: body.to_vec() }
    }

    fn authorization(&self) -> &str {
        std::str::from_utf8(self.header("authorization").next().unwrap()).unwrap()
    }

    /// What `SignedHeaders` lists.
    fn signed_headers(&self) -> Vec<String> {
        let names = self.authorization().split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        names.split(';').map(str::to_owned).collect()
    }

    /// The request, changed.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The request, with another value of one header.
    fn with_header(&self, name: &str, value: &str) -> Self {
        self.with(|request| {
            request.headers.retain(|(found, _)| found != name);
            request.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        })
    }

    /// All that a verifier does.
    fn verify_by(&self, secret_key: &str, now: Timestamp) -> Result<(), SignatureError> {
        let signature = Signature::parse(self.authorization())?;
        signature.check_date(self, now)?;
        signature.verify(self, secret_key)
    }

    fn verify(&self) -> Result<(), SignatureError> {
        self.verify_by(SECRET_KEY, NOW)
    }

    /// Signs it with `content` for the body's hash: for what no proper client signs. There is no query.
    fn sign(self, by: &Signer<'_>, names: &[&str], content: &str) -> Self {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        let mut canonical = format!("{}\n{}{slash}\n\n", self.method, self.path);
        for name in names {
            let value = String::from_utf8(self.header(name).next().unwrap().to_vec()).unwrap();
            writeln!(canonical, "{name}:{}", value.trim()).unwrap();
        }
        let names = names.join(";");
        write!(canonical, "\n{names}\n{content}").unwrap();
        let to_sign = format!("SDK-HMAC-SHA256\n{}\n{}", by.date, hex(&Sha256::digest(canonical)));
        let mac = Hmac::<Sha256>::new_from_slice(by.secret_key.as_bytes()).unwrap().chain_update(to_sign);
        let signature = hex(&mac.finalize().into_bytes());
        let access_key = by.access_key;
        let authorization =
            format!("SDK-HMAC-SHA256 Access={access_key}, SignedHeaders={names}, Signature={signature}");
        self.with_header("authorization", &authorization)
    }
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

/// The bytes that a base64 text stands for.
fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = text.trim_end_matches('=').chars().flat_map(|digit| {
        let value = DIGITS.find(digit).unwrap();
        (0..6).rev().map(move |bit| value >> bit & 1)
    });
    let mut bytes = Vec::new();
    loop {
        let next: Vec<_> = bits.by_ref().take(8).collect();
        if next.len() < 8 {
            return bytes;
        }
        bytes.push(u8::try_from(next.into_iter().fold(0, |byte, bit| byte << 1 | bit)).unwrap());
    }
}

/// What the vendor's own signers made, by name.
fn vectors() -> Vec<(String, Signed)> {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/signatures.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    vectors
        .into_iter()
        .map(|vector| {
            assert_eq!(
                (&vector["access_key"], &vector["secret_key"]),
                (&ACCESS_KEY.into(), &SECRET_KEY.into())
            );
            let headers = vector["headers"].as_array().unwrap().iter();
            let headers = headers.map(|pair| (text(&pair[0]).to_lowercase(), text(&pair[1]).into_bytes()));
            let body = if let Some(body) = vector.get("body") {
                text(body).into_bytes()
            } else if let Some(body) = vector.get("body_base64") {
                from_base64(body.as_str().unwrap())
            } else {
                let times = usize::try_from(vector["body_repeat"][1].as_u64().unwrap()).unwrap();
                text(&vector["body_repeat"][0]).repeat(times).into_bytes()
            };
            let request = Signed {
                method: text(&vector["method"]),
                path: text(&vector["path"]),
                query: text(&vector["query"]),
                headers: headers.collect(),
                body,
            };
            (text(&vector["name"]), request)
        })
        .collect()
}

/// Those that must verify.
fn good_vectors() -> Vec<(String, Signed)> {
    vectors().into_iter().filter(|(name, _)| !name.starts_with("quirk: ")).collect()
}

#[test]
fn whatever_the_vendors_clients_sign_verifies() {
    let good = good_vectors();
    for (name, request) in &good {
        assert_eq!(request.verify(), Ok(()), "{name}");
        assert_eq!(Signature::parse(request.authorization()).unwrap().access_key().as_str(), ACCESS_KEY);
        assert_eq!(
            request.verify_by(&format!("{SECRET_KEY}x"), NOW),
            Err(SignatureError::Mismatch),
            "{name}"
        );
    }
    let count = |is_counted: fn(&str) -> bool| good.iter().filter(|(name, _)| is_counted(name)).count();
    assert!(good.len() >= 83, "only {} vectors", good.len());
    assert!(count(|name| name.starts_with("derived: ")) >= 5);
    assert!(count(|name| name.starts_with("node: ")) >= 9);
}

#[test]
fn each_quirk_of_the_vendors_signer_verifies_or_not_as_it_is_listed_here() {
    let becomes = [
        // The header says that nothing stands for the body, and the hash of nothing is signed: the body is not open.
        ("quirk: an empty body that is not JSON is signed as empty", Ok(())),
        ("quirk: no body, and a type that is not JSON", Ok(())),
        // JSON must be signed, whatever it is called.
        ("quirk: application/merge-patch+json is an unsigned payload", Err(SignatureError::Mismatch)),
        ("quirk: Application/JSON is an unsigned payload", Err(SignatureError::Mismatch)),
        // Another path than the one that is asked for.
        ("quirk: an escape that is no UTF-8", Err(SignatureError::Mismatch)),
        // The query is sorted as text (contract, section 4.3).
        ("quirk: numbers of one key are sorted as numbers", Err(SignatureError::Mismatch)),
    ];
    let quirks: Vec<_> = vectors().into_iter().filter(|(name, _)| name.starts_with("quirk: ")).collect();
    let names: Vec<_> = quirks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, becomes.map(|(name, _)| name), "a quirk that is not listed");
    for ((name, request), (_, expected)) in quirks.iter().zip(becomes) {
        assert_eq!(request.verify(), expected, "{name}");
        if expected.is_ok() {
            let filled = request.with(|request| request.body.push(b'x'));
            assert_eq!(filled.verify(), Err(SignatureError::Mismatch), "{name}");
        }
    }
}

/// Contract §4.5, V1.
fn v1() -> Signed {
    let authorization = "SDK-HMAC-SHA256 Access=AKTESTEXAMPLE0000001, SignedHeaders=content-type;host;user-agent;\
                         x-project-id;x-sdk-date, \
                         Signature=74ed6c377f4bca01bbcedc2c2b81bc3a4fff582c6970e3956c940a2be7cb9bf5";
    let headers = [
        ("Content-Type", "application/json;charset=UTF-8"),
        ("User-Agent", "contract-test/1.0"),
        ("X-Project-Id", "0123456789abcdef0123456789abcdef"),
        ("X-Sdk-Date", DATE),
        ("Host", "ecs.region-1.example.com"),
        ("Authorization", authorization),
    ];
    Signed::new("POST", GROUPS, &headers, CREATE.as_bytes())
}

/// Contract §4.5, V3.
fn v3() -> Signed {
    let authorization = "V11-HMAC-SHA256 Credential=AKTESTEXAMPLE0000001/20260102/region-1/ecs, SignedHeaders=\
                         content-type;host;user-agent;x-project-id;x-sdk-date, \
                         Signature=457ff05b87421bcc5de1402f89b911de42de8621741bc0bf782a44b8e60cbf50";
    let headers = [
        ("Content-Type", "application/json;charset=UTF-8"),
        ("User-Agent", "contract-test/1.0"),
        ("X-Project-Id", "0123456789abcdef0123456789abcdef"),
        ("X-Sdk-Date", DATE),
        ("Host", "ecs.region-1.example.com"),
        ("Authorization", authorization),
    ];
    let path = format!("{GROUPS}/5bbcc3c4-1da2-4437-a48a-66f15b1b13f9/action");
    let body = br#"{"add_member": {"instance_uuid": "34dac9a0-c4a7-457b-bab2-e2c696e0e401"}}"#;
    Signed::new("POST", &path, &headers, body)
}

#[test]
fn the_contracts_vectors_verify() {
    let v2 = Signed::new(
        "GET",
        &format!("{GROUPS}?limit=10&marker=a%20b%2Fc~%2A%C3%A9"),
        &[
            ("Content-Type", "application/json;charset=UTF-8"),
            ("User-Agent", "contract-test/1.0"),
            ("X-Project-Id", "0123456789abcdef0123456789abcdef"),
            ("X-Security-Token", "STSTOKEN=="),
            ("X-Sdk-Date", DATE),
            ("Host", "127.0.0.1:8443"),
            (
                "Authorization",
                "SDK-HMAC-SHA256 Access=AKTESTEXAMPLE0000001, SignedHeaders=content-type;host;user-agent;\
                 x-project-id;x-sdk-date;x-security-token, \
                 Signature=ea7c1e561dae254a45b4f6e6d9bbc067b6fcec4d9a2796328ac0a5fa9feca7e8",
            ),
        ],
        b"",
    );
    let v4 = Signed::new(
        "PUT",
        "/v1/0123456789abcdef0123456789abcdef/x y/%E4%B8%AD?a=true&b=1&b=3",
        &[
            ("Content-Type", "application/octet-stream"),
            ("X_Under", "u"),
            ("X-Sdk-Date", DATE),
            ("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD"),
            ("Host", "ecs.region-1.example.com"),
            (
                "Authorization",
                "SDK-HMAC-SHA256 Access=AKTESTEXAMPLE0000001, SignedHeaders=content-type;host;\
                 x-sdk-content-sha256;x-sdk-date, \
                 Signature=0d44d18497186b3303f2c65dd8892fc59a5a9603fd93b1fa661e72d402d46db7",
            ),
        ],
        b"abc",
    );
    for (name, request) in [("V1", v1()), ("V2", v2), ("V3", v3()), ("V4", v4)] {
        assert_eq!(request.verify(), Ok(()), "{name}");
    }

    let go = |authorization| {
        let headers = [("X-Sdk-Date", "20060102T150405Z"), ("Authorization", authorization)];
        Signed::new("GET", "/path?limit=1", &headers, b"")
    };
    let then = Timestamp::from_millis(1_136_214_245_000);
    for authorization in [
        "SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=x-sdk-date, \
         Signature=5a2ce64c865e0e6046321c6f3d5a77ba8413eeaf355c3166c03d58d02ac79624",
        "V11-HMAC-SHA256 Credential=AccessKey/20060102/test-region-1/demo, SignedHeaders=x-sdk-date, \
         Signature=8fd3610508884bb19718317797c7378716a94bc740d97502e569322e366341cc",
    ] {
        assert_eq!(go(authorization).verify_by("SecretKey", then), Ok(()), "{authorization}");
    }
}

#[test]
fn a_trailing_slash_and_padded_headers_leave_a_signature_good() {
    assert_eq!(v1().with(|request| request.path.push('/')).verify(), Ok(()));
    assert_eq!(v1().with_header("user-agent", "  contract-test/1.0\t ").verify(), Ok(()));
}

#[test]
fn any_changed_byte_of_the_body_is_a_mismatch() {
    for good in [v1(), v3()] {
        for at in 0..good.body.len() {
            for bit in 0..8 {
                let changed = good.with(|request| request.body[at] ^= 1 << bit);
                assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "byte {at}, bit {bit}");
            }
            let shorter = good.with(|request| request.body.truncate(at));
            assert_eq!(shorter.verify(), Err(SignatureError::Mismatch), "cut at {at}");
        }
        let longer = good.with(|request| request.body.push(b' '));
        assert_eq!(longer.verify(), Err(SignatureError::Mismatch));
    }
}

#[test]
fn any_changed_bit_of_the_signature_is_a_mismatch() {
    for good in [v1(), v3()] {
        let (head, signature) = good.authorization().split_at(good.authorization().len() - 64);
        for at in 0..64 {
            for bit in 0..4 {
                let digit = signature[at..=at].chars().next().unwrap().to_digit(16).unwrap() ^ (1 << bit);
                let mut changed = signature.to_owned();
                changed.replace_range(at..=at, &char::from_digit(digit, 16).unwrap().to_string());
                let changed = good.with_header("authorization", &format!("{head}{changed}"));
                assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "digit {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_signed_header_that_is_changed_missing_or_there_twice_is_refused() {
    for (vector, good) in good_vectors() {
        for name in good.signed_headers() {
            let value = good.header(&name).next().unwrap().to_vec();
            let changed = match name.as_str() {
                "x-sdk-date" => "20260102T030406Z".to_owned(),
                _ => format!("{}x", String::from_utf8(value.clone()).unwrap()),
            };
            let changed = good.with_header(&name, &changed);
            assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "{vector}: {name} changed");
            let missing = good.with(|request| request.headers.retain(|(found, _)| *found != name));
            assert!(missing.verify().is_err(), "{vector}: {name} missing");
            for other in [value, b"x".to_vec(), Vec::new()] {
                let last = good.with(|request| request.headers.push((name.clone(), other.clone())));
                let first = good.with(|request| request.headers.insert(0, (name.clone(), other)));
                assert!(last.verify().is_err() && first.verify().is_err(), "{vector}: {name} there twice");
            }
        }
    }
}

#[test]
fn another_method_path_or_query_is_a_mismatch() {
    for (vector, good) in good_vectors() {
        let edits: [fn(&mut Signed); 8] = [
            |request| request.method = "PATCH".to_owned(),
            |request| request.method.make_ascii_lowercase(),
            |request| request.path.push_str("/x"),
            |request| request.path.push_str("//"),
            |request| request.path.insert(0, '/'),
            |request| request.path.insert(1, 'x'),
            |request| request.query.push_str("&x="),
            |request| request.query.insert_str(0, "a=b&"),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let changed = good.with(edit);
            assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "{vector}: change {number}");
        }
    }
    let good = good_vectors().into_iter().find(|(name, _)| name == "query: limit and marker").unwrap().1;
    for query in ["", "limit=10", "limit=1&marker=5bbcc3c4-1da2-4437-a48a-66f15b1b13f9", "limit=10&limit=10"]
    {
        let changed = good.with(|request| query.clone_into(&mut request.query));
        assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "{query}");
    }
    let longer = good.with(|request| request.query.push_str("&limit=10"));
    assert_eq!(longer.verify(), Err(SignatureError::Mismatch), "the same parameter once more");
}

#[test]
fn what_is_not_signed_may_be_anything() {
    for (vector, good) in good_vectors() {
        let signed = good.signed_headers();
        for name in ["x-project-id", "host", "x-security-token", "user-agent", "accept", "x-note"] {
            if !signed.iter().any(|signed| signed == name) {
                assert_eq!(good.with_header(name, "other").verify(), Ok(()), "{vector}: {name}");
                let twice = good.with(|request| request.headers.push((name.to_owned(), b"x".to_vec())));
                assert_eq!(twice.verify(), Ok(()), "{vector}: {name} twice");
            }
        }
    }
}

#[test]
fn x_sdk_content_sha256_proves_a_body_only_as_its_own_hash() {
    let (json, own) = ("application/json", hex(&Sha256::digest(CREATE)));
    let (other, empty) = (hex(&Sha256::digest("other")), hex(&Sha256::digest("")));
    let sign = |kind: &str, said: &str, content: &str| {
        let headers = [("content-type", kind), ("x-sdk-content-sha256", said), ("x-sdk-date", DATE)];
        let names = headers.map(|(name, _)| name);
        Signed::new("POST", GROUPS, &headers, CREATE.as_bytes()).sign(&TEST, &names, content)
    };
    assert_eq!(sign(json, &own, &own).verify(), Ok(()));
    assert_eq!(sign("text/plain", &own, &own).verify(), Ok(()));
    assert_eq!(sign("text/plain", "UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD").verify(), Ok(()));
    let others = [
        other.as_str(),
        &empty,
        "",
        "x",
        "unsigned-payload",
        "UNSIGNED-PAYLOADS",
        "UNSIGNED",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ];
    for said in others {
        for kind in [json, "text/plain"] {
            // Signed as a verifier would want it that takes the client's word for the body.
            assert_eq!(sign(kind, said, said).verify(), Err(SignatureError::Mismatch), "{kind} {said:?}");
        }
    }
    let changed = sign("text/plain", &own, &own).with(|request| request.body.push(b' '));
    assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "the hash of another body");
}

#[test]
fn a_json_body_cannot_be_left_unsigned() {
    let sign = |kinds: &[&str]| {
        let mut headers = vec![("x-sdk-content-sha256", "UNSIGNED-PAYLOAD"), ("x-sdk-date", DATE)];
        headers.extend(kinds.iter().map(|kind| ("content-type", *kind)));
        let request = Signed::new("POST", GROUPS, &headers, CREATE.as_bytes());
        request.sign(&TEST, &["x-sdk-content-sha256", "x-sdk-date"], "UNSIGNED-PAYLOAD")
    };
    let kinds: [&[&str]; 9] = [
        &["application/json"],
        &["application/json;charset=UTF-8"],
        &["APPLICATION/JSON"],
        &[" application/json "],
        &["application/problem+json"],
        &["text/json"],
        &["application/bson"],
        &["text/plain", "application/json"],
        &["application/json", "text/plain"],
    ];
    for kinds in kinds {
        assert_eq!(sign(kinds).verify(), Err(SignatureError::Mismatch), "{kinds:?}");
    }
    assert_eq!(sign(&["text/plain"]).verify(), Ok(()), "the content type need not be signed for that");
}

#[test]
fn an_unsigned_x_sdk_content_sha256_stands_for_nothing() {
    for said in ["UNSIGNED-PAYLOAD", &hex(&Sha256::digest("other")), "x"] {
        let good = v1().with_header("x-sdk-content-sha256", said);
        assert_eq!(good.verify(), Ok(()), "{said}");
        let changed = good.with(|request| request.body.push(b' '));
        assert_eq!(changed.verify(), Err(SignatureError::Mismatch), "{said}");
    }
}

#[test]
fn an_authorization_in_any_other_form_is_malformed() {
    let digits = "0123456789abcdef".repeat(4);
    let sdk = |access: &str, names: &str, signature: &str| {
        format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}")
    };
    let v11 = |credential: &str| {
        format!("V11-HMAC-SHA256 Credential={credential}, SignedHeaders=x-sdk-date, Signature={digits}")
    };
    assert!(Signature::parse(&sdk("AK", "x-sdk-date", &digits)).is_ok());
    assert!(Signature::parse(&v11("AK/20260102/region-1/ecs")).is_ok());
    let good = sdk("AK", "host;x-sdk-date", &digits);
    let (names, signature) = ("SignedHeaders=host;x-sdk-date", format!("Signature={digits}"));
    for bad in [
        String::new(),
        " ".to_owned(),
        ",".to_owned(),
        "SDK-HMAC-SHA256".to_owned(),
        "SDK-HMAC-SHA256 ".to_owned(),
        "SDK-HMAC-SHA256 ,,,".to_owned(),
        "V11-HMAC-SHA256".to_owned(),
        "Bearer dev-token".to_owned(),
        "Basic ZGV2OmRldg==".to_owned(),
        good.replace("SDK-HMAC-SHA256 ", ""),
        good.replace("SDK-HMAC-SHA256", "sdk-hmac-sha256"),
        good.replace("SDK-HMAC-SHA256", "SDK-HMAC-SHA512"),
        good.replace("SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
        good.replace("SDK-HMAC-SHA256", "SDK-ECDSA-P256-SHA256"),
        good.replace("SDK-HMAC-SHA256", "AWS4-HMAC-SHA256"),
        good.replace("SDK-HMAC-SHA256 ", "SDK-HMAC-SHA256"),
        good.replace("SDK-HMAC-SHA256", "V11-HMAC-SHA256"),
        // The key.
        good.replace("Access=AK, ", ""),
        good.replace("Access=AK", "Access"),
        good.replace("Access=AK", "Access=AK, Access=AK"),
        good.replace("Access=AK", "access=AK"),
        good.replace("Access=AK", "Credential=AK"),
        sdk("", "x-sdk-date", &digits),
        sdk("A K", "x-sdk-date", &digits),
        sdk("A-K", "x-sdk-date", &digits),
        sdk("AK\u{e9}", "x-sdk-date", &digits),
        sdk("*", "x-sdk-date", &digits),
        sdk("AK/20260102/region-1/ecs", "x-sdk-date", &digits),
        sdk(&"A".repeat(65), "x-sdk-date", &digits),
        // The list.
        good.replace(&format!("{names}, "), ""),
        good.replace(names, &format!("{names}, {names}")),
        sdk("AK", "", &digits),
        sdk("AK", ";", &digits),
        sdk("AK", "host", &digits),
        sdk("AK", "x-sdk-date;host", &digits),
        sdk("AK", "x-sdk-date;x-sdk-date", &digits),
        sdk("AK", "host;host;x-sdk-date", &digits),
        sdk("AK", "x-sdk-date;", &digits),
        sdk("AK", "X-Sdk-Date", &digits),
        sdk("AK", "host,x-sdk-date", &digits),
        sdk("AK", "x-sdk-dates", &digits),
        // The signature.
        good.replace(&format!(", {signature}"), ""),
        good.replace(&signature, &format!("{signature}, {signature}")),
        sdk("AK", "x-sdk-date", ""),
        sdk("AK", "x-sdk-date", "0"),
        sdk("AK", "x-sdk-date", &digits[1..]),
        sdk("AK", "x-sdk-date", &digits[2..]),
        sdk("AK", "x-sdk-date", &format!("{digits}0")),
        sdk("AK", "x-sdk-date", &format!("{digits}00")),
        sdk("AK", "x-sdk-date", &digits.replace('f', "g")),
        sdk("AK", "x-sdk-date", &digits.replace("ef", "+f")),
        sdk("AK", "x-sdk-date", &digits.replace("ef", "\u{e9}")),
        sdk("AK", "x-sdk-date", &format!("0x{}", &digits[2..])),
        sdk("AK", "x-sdk-date", &format!("{} {}", &digits[..32], &digits[32..])),
        // What a signature is derived for.
        v11(""),
        v11("AK"),
        v11("/20260102/region-1/ecs"),
        v11("A K/20260102/region-1/ecs"),
        v11("AK/20260102/region-1/ecs, Credential=AK/20260102/region-1/ecs"),
        v11("AK/20260102/region-1/ecs").replace("Credential", "Access"),
        v11("AK/20260102/region-1/ecs").replace("V11-", "SDK-"),
        v11("AK/20260102/region-1/ecs").replace("x-sdk-date", "host"),
    ] {
        let parsed = Signature::parse(&bad);
        assert!(matches!(parsed, Err(SignatureError::Malformed(_))), "{bad:?}: {parsed:?}");
    }
}

#[test]
fn as_many_headers_as_the_limit_may_be_signed_and_no_more() {
    for (count, is_taken) in [(SIGNED_HEADERS_MAX, true), (SIGNED_HEADERS_MAX + 1, false)] {
        let mut names: Vec<_> = (1..count).map(|number| format!("x-note-{number:03}")).collect();
        names.push("x-sdk-date".to_owned());
        let headers: Vec<_> =
            names.iter().map(|name| (name.as_str(), if name == "x-sdk-date" { DATE } else { "v" })).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let request =
            Signed::new("GET", GROUPS, &headers, b"").sign(&TEST, &names, &hex(&Sha256::digest("")));
        let verified = request.verify();
        if is_taken {
            assert_eq!(verified, Ok(()), "{count} headers");
        } else {
            assert!(matches!(verified, Err(SignatureError::Malformed(_))), "{count} headers: {verified:?}");
        }
    }
}

#[test]
fn a_derived_signature_is_good_for_its_own_day_region_service_and_key() {
    let good = v3();
    for (changed, is_of_another_day) in [
        ("AKTESTEXAMPLE0000001/20260101/region-1/ecs", true),
        ("AKTESTEXAMPLE0000001/20260103/region-1/ecs", true),
        ("AKTESTEXAMPLE0000001/2026010/region-1/ecs", true),
        ("AKTESTEXAMPLE0000001/x/region-1/ecs", true),
        ("AKTESTEXAMPLE0000001/20260102/region-2/ecs", false),
        ("AKTESTEXAMPLE0000001/20260102/region-1/iam", false),
        ("AKTESTEXAMPLE0000002/20260102/region-1/ecs", false),
    ] {
        let authorization =
            good.authorization().replace("AKTESTEXAMPLE0000001/20260102/region-1/ecs", changed);
        let verified = good.with_header("authorization", &authorization).verify();
        if is_of_another_day {
            assert!(matches!(verified, Err(SignatureError::Malformed(_))), "{changed}: {verified:?}");
        } else {
            assert_eq!(verified, Err(SignatureError::Mismatch), "{changed}");
        }
    }
}

#[test]
fn a_signature_is_good_within_15_minutes_of_its_date_and_not_a_second_more() {
    let at = |millis: u64| Timestamp::from_millis(millis);
    let now = NOW.as_millis();
    for good in [v1(), v3()] {
        for fine in [now - SKEW_MS, now - 1, now, now + 1, now + SKEW_MS] {
            assert_eq!(good.verify_by(SECRET_KEY, at(fine)), Ok(()), "{fine}");
        }
        for off in [
            0,
            now - SKEW_MS - SECOND_MS,
            now - SKEW_MS - 1,
            now + SKEW_MS + 1,
            now + SKEW_MS + SECOND_MS,
            Timestamp::MAX.as_millis(),
        ] {
            assert_eq!(good.verify_by(SECRET_KEY, at(off)), Err(SignatureError::Expired), "{off}");
        }
    }
}

#[test]
fn a_date_in_any_other_form_is_refused() {
    let check = |date: &str| {
        let request = v1().with_header("x-sdk-date", date);
        Signature::parse(request.authorization()).unwrap().check_date(&request, NOW)
    };
    assert_eq!(check(DATE), Ok(()));
    for date in [
        "",
        "x",
        "2026-01-02T03:04:05Z",
        "20260102T030405",
        "20260102T030405+0000",
        "20260102030405Z",
        "20260102T030405.000Z",
        "20260102T0304Z",
        "20261302T030405Z",
        "20260230T030405Z",
        "20260102T240405Z",
        "20260102t030405z",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "1767323045",
        "２０２６0102T030405Z",
    ] {
        let checked = check(date);
        assert!(matches!(checked, Err(SignatureError::Malformed(_))), "{date:?}: {checked:?}");
    }
    for date in ["19691231T235959Z", "00010101T000000Z", "99991231T235959Z"] {
        assert_eq!(check(date), Err(SignatureError::Expired), "{date}");
    }
    let not_text = v1().with(|request| request.headers.retain(|(name, _)| name != "x-sdk-date"));
    let not_text = not_text
        .with(|request| request.headers.push(("x-sdk-date".to_owned(), b"20260102T03040\xff".to_vec())));
    assert!(matches!(not_text.verify(), Err(SignatureError::Malformed(_))));
}

/// Texts that look as if somebody had tried.
fn authorizations() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "SDK-HMAC-SHA256",
        "V11-HMAC-SHA256",
        "Access=",
        "Credential=",
        ACCESS_KEY,
        "/20260102/region-1/ecs",
        "SignedHeaders=",
        "content-type;host;user-agent;x-project-id;x-sdk-date",
        "x-sdk-date",
        "Signature=",
        "74ed6c377f4bca01bbcedc2c2b81bc3a4fff582c6970e3956c940a2be7cb9bf",
        "0000000000000000000000000000000000000000000000000000000000000000",
        " ",
        ", ",
        ",",
        "=",
        ";",
        "/",
        "\u{7ec4}",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(parts, 0..16).prop_map(|parts| parts.concat())]
}

proptest! {
    #[test]
    fn no_random_text_verifies_or_stops_the_service(text in authorizations()) {
        for good in [v1(), v3()] {
            prop_assert!(good.with_header("authorization", &text).verify().is_err());
        }
    }

    #[test]
    fn no_random_request_verifies_or_stops_the_service(
        path in any::<String>(),
        query in any::<String>(),
        value in any::<Vec<u8>>(),
        body in any::<Vec<u8>>(),
    ) {
        let good = v1();
        let request = good.with(|request| {
            (request.path, request.query, request.body) = (path, query, body);
            request.headers.retain(|(name, _)| name != "user-agent");
            request.headers.push(("user-agent".to_owned(), value));
        });
        prop_assert_eq!(request.verify(), Err(SignatureError::Mismatch));
    }
}

/// The keys of the accounts below.
const ALICE: Signer<'static> =
    Signer { access_key: "AKALICE0000000000001", secret_key: "alice-secret-key-1", date: DATE };
const ALICE_AGAIN: Signer<'static> =
    Signer { access_key: "AKALICE0000000000002", secret_key: "alice-secret-key-2", date: DATE };
const DEV: Signer<'static> = Signer { access_key: dev::ACCESS_KEY, secret_key: dev::SECRET_KEY, date: DATE };

const ACCOUNTS: &str = "
    [[domain]]
    name = 'acme'
    root = { access_key = [{ access = 'AKACME00000000000001', secret = 'acme-secret-key-1' }] }
    project = [{ name = 'region-1', id = '0123456789abcdef0123456789abcdef' }]
    user = [{ name = 'alice', id = 'a11ce000000000000000000000000001', access_key = [
        { access = 'AKALICE0000000000001', secret = 'alice-secret-key-1' },
        { access = 'AKALICE0000000000002', secret = 'alice-secret-key-2' },
    ] }]
    user_group = [{ name = 'developers', users = ['alice'] }]
    grant = [{ user_group = 'developers', policies = ['ECS FullAccess'], scope = 'all_projects' }]
";

fn strict(settings: &mut Settings) {
    settings.dev.anonymous = false;
}

/// The same key with a wrong secret.
fn forged<'key>(signer: &Signer<'key>) -> Signer<'key> {
    Signer { access_key: signer.access_key, secret_key: "not-the-secret-key", date: signer.date }
}

/// Checks the gateway's answer to a signature that is not taken.
#[track_caller]
fn assert_refused(answer: &Answer, suffix: &str) {
    let message = answer.gateway_error(401, "APIGW.0301");
    assert_eq!(message, format!("Incorrect IAM authentication information: {suffix}"));
}

const BAD: &str = "verify aksk signature fail";
const LOCKED: &str = "AK access failed to reach the limit,forbidden.";
const EXPIRED: &str = "calc ak sk signature fail:signature expired";
const UNKNOWN: &str = "Get secretKey failed,ak:******,err:ak not exist";

#[test]
fn a_signed_request_does_what_it_asks_for_in_the_name_of_its_key() {
    let dev = TestApp::start_with(strict);
    let acme = TestApp::start_with_identities(ACCOUNTS, |_| {});
    let path = groups_path();
    let cases = [
        (&dev, DEV, path.as_str(), dev::USER_ID),
        (&acme, ALICE, GROUPS, "a11ce000000000000000000000000001"),
    ];
    for (app, signer, groups, user_id) in cases {
        let json = [("Content-Type", "application/json")];
        let send = |method: &str, path: &str, body: &str| {
            app.client.send_signed(&signer, method, path, &json, body.as_bytes())
        };
        let created = send("POST", groups, &create_body("web"));
        assert_eq!(created.status, 200, "{}", created.text);
        let id = created.json()["server_group"]["id"].as_str().unwrap().to_owned();
        let listed = send("GET", &format!("{groups}?limit=10"), "");
        assert_eq!(listed.json()["server_groups"][0]["id"], id.as_str(), "{}", listed.text);
        let shown = send("GET", &format!("{groups}/{id}"), "");
        assert_eq!(shown.json()["server_group"]["name"], "web", "{}", shown.text);
        assert_eq!(send("DELETE", &format!("{groups}/{id}"), "").status, 204);
        assert_eq!(send("GET", &format!("{groups}/{id}"), "").status, 404);

        let records = records(&app.database());
        assert_eq!(records.len(), 2);
        for record in records {
            let actor = &record["actor"];
            assert_eq!((&actor["user_id"], &actor["credential"]), (&user_id.into(), &"access_key".into()));
            assert_eq!(actor["access_key"], signer.access_key);
            assert!(!record.to_string().contains(signer.secret_key));
        }
    }
}

/// Sends what was signed as `canonical` with another spelling.
fn send_spelled(
    client: &Client,
    method: &str,
    canonical: (&str, &str),
    spelled: &str,
    body: &[u8],
) -> Answer {
    let signed = DEV.sign(method, canonical.0, canonical.1, &[("content-type", "application/json")], body);
    let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.send(method, spelled, &headers, body)
}

#[test]
fn a_request_may_be_spelled_in_every_way_that_means_the_same() {
    let app = TestApp::start_with(strict);
    let client = &app.client;
    let groups = groups_path();
    let body = r#"{"server_group":{"name":"组-é","policies":["anti-affinity"]}}"#;
    let created = send_spelled(client, "POST", (&groups, ""), &format!("{groups}/"), body.as_bytes());
    assert_eq!((created.status, &created.json()["server_group"]["name"]), (200, &"组-é".into()));
    let id = created.json()["server_group"]["id"].as_str().unwrap().to_owned();

    let group = group_path(&id);
    let slash = group_path(&format!("{id}/"));
    let escaped = group_path(&id.replace('-', "%2D"));
    let lower = group_path(&id.replace('-', "%2d"));
    for spelled in [&group, &slash, &escaped, &lower] {
        let shown = send_spelled(client, "GET", (&group, ""), spelled, b"");
        assert_eq!(shown.status, 200, "{spelled}: {}", shown.text);
    }
    let query = "k=a&k=b&limit=1&name=%E7%BB%84%20%2A&none=";
    for spelled in [
        query,
        "k=b&k=a&none=&name=%e7%bb%84%20%2a&limit=1",
        "none&limit=%31&name=%E7%BB%84+*&k=a&k=b",
        "limit=1&k=b&&k=a&none&name=%E7%BB%84+%2A&",
    ] {
        let listed = send_spelled(client, "GET", (&groups, query), &format!("{groups}?{spelled}"), b"");
        assert_eq!(listed.status, 200, "{spelled}: {}", listed.text);
    }
    for (query, spelled) in [("k=a&k=b", "k=a&k=a"), ("k=a&k=b", "k=a"), ("k=a&k=b", "k=a%26k=b")] {
        let refused = send_spelled(client, "GET", (&groups, query), &format!("{groups}?{spelled}"), b"");
        assert_refused(&refused, BAD);
    }
    let odd =
        send_spelled(client, "GET", (&group_path("a%20b/c%40d~"), ""), &group_path("a%20b%2fc@d%7E"), b"");
    odd.ecs_error(404, "Ecs.1000");
}

#[test]
fn letters_beyond_ascii_may_stand_in_a_signed_header() {
    let app = TestApp::start_with(strict);
    let path = groups_path();
    for note in ["组 é", "  a  b  "] {
        let signed = DEV.sign("GET", &path, "", &[("x-note", note)], b"");
        let mut lines = String::new();
        for (name, value) in &signed {
            write!(lines, "{name}: {value}\r\n").unwrap();
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        assert_eq!(send_raw(app.api, request.as_bytes()).status, 200, "{note:?}");
        assert_refused(&send_raw(app.api, request.replace(note, "other").as_bytes()), BAD);
    }
}

#[test]
fn a_body_may_be_signed_up_to_the_limit_and_may_be_empty() {
    let app = TestApp::start_with(strict);
    let (path, json) = (groups_path(), [("content-type", "application/json")]);
    let mut body = create_body("large");
    body.push_str(&" ".repeat(1_048_576 - body.len()));
    let send = |body: &str| app.client.send_signed(&DEV, "POST", &path, &json, body.as_bytes());
    assert_eq!(send(&body).status, 200);
    let mut changed = body.clone();
    changed.replace_range(1_000_000..1_000_001, "\t");
    let signed = DEV.sign("POST", &path, "", &json, body.as_bytes());
    let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_refused(&app.client.send("POST", &path, &headers, changed.as_bytes()), BAD);
    body.push(' ');
    send(&body).gateway_error(413, "APIGW.0201");
    send("").ecs_error(400, "Common.0002");
}

#[test]
fn an_unsigned_payload_gets_no_json_in() {
    let app = TestApp::start_with(strict);
    let path = groups_path();
    for (kind, status) in [("application/json", 401), ("text/plain", 415)] {
        let headers =
            [("content-type", kind), ("x-sdk-content-sha256", "UNSIGNED-PAYLOAD"), ("x-sdk-date", DATE)];
        let request = Signed::new("POST", &path, &headers, create_body("web").as_bytes());
        let request = request.sign(&DEV, &headers.map(|(name, _)| name), "UNSIGNED-PAYLOAD");
        let headers = [&headers[..], &[("authorization", request.authorization())]].concat();
        let answer = app.client.send("POST", &path, &headers, &request.body);
        assert_eq!(answer.status, status, "{kind}: {}", answer.text);
    }
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}

#[test]
fn a_bad_signature_is_401_whatever_else_is_wrong() {
    let app = TestApp::start_with(|settings| {
        strict(settings);
        settings.access.lock_after_failures = 0;
        settings.quota.groups_per_project = 0;
    });
    let (groups, json) = (groups_path(), [("content-type", "application/json")]);
    let other_project = groups.replace(dev::PROJECT_ID, "0123456789abcdef0123456789abcdef");
    let text = [("content-type", "text/plain")];
    let unknown = group_path("5bbcc3c4-1da2-4437-a48a-66f15b1b13f9");
    let good_body = create_body("web");
    let requests: [(&str, &str, &[(&str, &str)], &str, u16); 10] = [
        ("POST", &groups, &json, "{", 400),
        ("POST", &groups, &json, "[]", 400),
        ("POST", &groups, &json, "", 400),
        ("POST", &groups, &text, "{}", 415),
        ("POST", &groups, &json, &good_body, 403),
        ("POST", &other_project, &json, &good_body, 400),
        ("GET", &unknown, &json, "", 404),
        ("GET", &group_path("no-uuid"), &json, "", 404),
        ("DELETE", &unknown, &json, "", 404),
        ("GET", &format!("{groups}?limit=0"), &json, "", 400),
    ];
    for (method, path, headers, body, _) in requests {
        let (signed_path, query) = path.split_once('?').unwrap_or((path, ""));
        let signed = DEV.sign(method, signed_path, query, headers, body.as_bytes());
        let flipped = signed.iter().map(|(name, value)| {
            let mut value = value.clone();
            if name == "authorization" {
                let last = if value.ends_with('0') { "1" } else { "0" };
                value.replace_range(value.len() - 1.., last);
            }
            (name.clone(), value)
        });
        let flipped: Vec<_> = flipped.collect();
        let headers: Vec<_> = flipped.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_refused(&app.client.send(method, path, &headers, body.as_bytes()), BAD);
    }
    assert_eq!(records(&app.database()), Vec::<Value>::new());
    for (method, path, headers, body, status) in requests {
        let answer = app.client.send_signed(&DEV, method, path, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
    }
}

#[test]
fn what_is_wrong_with_a_signature_is_told_in_the_gateways_words() {
    let app = TestApp::start_with(strict);
    let path = groups_path();
    let list = |signer: &Signer<'_>| app.client.send_signed(signer, "GET", &path, &[], b"");
    assert_eq!(list(&DEV).status, 200);
    assert_refused(&list(&forged(&DEV)), BAD);
    assert_refused(&list(&Signer { date: "20260102T024904Z", ..DEV }), EXPIRED);
    assert_refused(&list(&Signer { date: "20260102T031906Z", ..DEV }), EXPIRED);
    assert_eq!(list(&Signer { date: "20260102T024905Z", ..DEV }).status, 200, "15 minutes ago");
    assert_eq!(list(&Signer { date: "20260102T031905Z", ..DEV }).status, 200, "in 15 minutes");
    assert_refused(&list(&Signer { access_key: "NOSUCHACCESSKEY00001", ..DEV }), UNKNOWN);
    for authorization in ["", "Bearer x", "SDK-HMAC-SHA256 Access=DEVACCESSKEY00000001"] {
        let answer = app.client.send("GET", &path, &[("authorization", authorization)], b"");
        let message = answer.gateway_error(401, "APIGW.0301");
        assert!(message.starts_with("Incorrect IAM authentication information: Unauthorized"), "{message}");
    }
}

#[test]
fn a_bad_signature_is_not_made_good_by_a_good_token() {
    let app = TestApp::start();
    let answer =
        app.client.with_token(dev::TOKEN).send_signed(&forged(&DEV), "GET", &groups_path(), &[], b"");
    assert_refused(&answer, BAD);
}

/// Lists acme's groups.
fn list(app: &TestApp, signer: &Signer<'_>) -> Answer {
    app.client.send_signed(signer, "GET", GROUPS, &[], b"")
}

fn acme() -> TestApp {
    TestApp::start_with_identities(ACCOUNTS, |_| {})
}

#[test]
fn five_bad_signatures_in_a_row_leave_a_key_usable_and_the_sixth_locks_it_for_5_minutes() {
    let app = acme();
    for _ in 0..5 {
        assert_refused(&list(&app, &forged(&ALICE)), BAD);
    }
    assert_eq!(list(&app, &ALICE).status, 200);
    for _ in 0..6 {
        assert_refused(&list(&app, &forged(&ALICE)), BAD);
    }
    assert_refused(&list(&app, &ALICE), LOCKED);
    assert_refused(&list(&app, &forged(&ALICE)), LOCKED);
    assert_eq!(list(&app, &ALICE_AGAIN).status, 200, "another key of the same user");

    app.clock.set(NOW.plus_millis(LOCK_MS - 1));
    assert_refused(&list(&app, &ALICE), LOCKED);
    app.clock.set(NOW.plus_millis(LOCK_MS));
    assert_eq!(list(&app, &ALICE).status, 200, "what came while it was locked does not lock it for longer");
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}

#[test]
fn a_key_that_was_locked_may_be_wrong_five_times_again() {
    let app = acme();
    for _ in 0..6 {
        list(&app, &forged(&ALICE));
    }
    assert_refused(&list(&app, &ALICE), LOCKED);
    app.clock.set(NOW.plus_millis(LOCK_MS));
    for _ in 0..5 {
        assert_refused(&list(&app, &forged(&ALICE)), BAD);
    }
    assert_eq!(list(&app, &ALICE).status, 200);
}

#[test]
fn skew_unknown_keys_and_malformed_headers_are_no_bad_signatures() {
    let app = acme();
    for _ in 0..5 {
        assert_refused(&list(&app, &forged(&ALICE)), BAD);
    }
    for _ in 0..10 {
        assert_refused(&list(&app, &Signer { date: "20260102T020405Z", ..ALICE }), EXPIRED);
        assert_refused(&list(&app, &Signer { date: "20260102T020405Z", ..forged(&ALICE) }), EXPIRED);
        assert_refused(&list(&app, &Signer { access_key: "NOSUCHACCESSKEY00001", ..ALICE }), UNKNOWN);
        for authorization in [
            "SDK-HMAC-SHA256 Access=AKALICE0000000000001, SignedHeaders=x-sdk-date, Signature=00",
            "SDK-HMAC-SHA256 Access=AKALICE0000000000001, SignedHeaders=host, Signature=",
        ] {
            let headers = [("authorization", authorization), ("x-sdk-date", DATE)];
            app.client.send("GET", GROUPS, &headers, b"").gateway_error(401, "APIGW.0301");
        }
    }
    assert_eq!(list(&app, &ALICE).status, 200);
}

#[test]
fn a_key_is_locked_for_the_address_that_sent_bad_signatures_and_for_no_other() {
    let app = TestApp::start_with_identities(ACCOUNTS, |settings| {
        settings.api.trusted_proxies = Networks::try_from("127.0.0.1".to_owned()).unwrap();
    });
    let list_from = |address: &str, signer: &Signer<'_>| {
        let signed = signer.sign("GET", GROUPS, "", &[], b"");
        let headers = signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = headers.chain([("x-forwarded-for", address)]).collect();
        app.client.send("GET", GROUPS, &headers, b"")
    };
    for _ in 0..6 {
        assert_refused(&list_from("198.51.100.7", &forged(&ALICE)), BAD);
    }
    assert_refused(&list_from("198.51.100.7", &ALICE), LOCKED);
    assert_refused(&list_from("192.0.2.1, 198.51.100.7", &ALICE), LOCKED);
    assert_eq!(list_from("198.51.100.8", &ALICE).status, 200);
    assert_eq!(list_from("198.51.100.7, 198.51.100.8", &ALICE).status, 200);
    assert_eq!(list(&app, &ALICE).status, 200, "from the proxy itself");
}

#[test]
fn who_is_no_trusted_proxy_cannot_name_another_address() {
    let app = acme();
    for number in 0..6 {
        let address = format!("198.51.100.{number}");
        let headers = [("x-forwarded-for", address.as_str())];
        assert_refused(&app.client.send_signed(&forged(&ALICE), "GET", GROUPS, &headers, b""), BAD);
    }
    assert_refused(&list(&app, &ALICE), LOCKED);
}

#[test]
fn the_setting_says_after_how_many_bad_signatures_a_key_is_locked_and_0_is_never() {
    for (lock_after_failures, bad_ones, is_locked) in
        [(0, 50, false), (1, 1, false), (1, 2, true), (20, 20, false), (20, 21, true)]
    {
        let app = TestApp::start_with_identities(ACCOUNTS, |settings| {
            settings.access.lock_after_failures = lock_after_failures;
        });
        for _ in 0..bad_ones {
            assert_refused(&list(&app, &forged(&ALICE)), BAD);
        }
        if is_locked {
            assert_refused(&list(&app, &ALICE), LOCKED);
        } else {
            assert_eq!(list(&app, &ALICE).status, 200, "{lock_after_failures} {bad_ones}");
        }
    }
}
