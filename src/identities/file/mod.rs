//! `identities.toml`: its form, and what is wrong with it, by line. No error repeats a secret.

mod form;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use toml::Spanned;

use self::form::{
    AccessKeyToml, DomainToml, FileToml, GrantToml, PolicyToml, ProjectToml, RootToml, ScopeToml, SecretText,
    UserGroupToml, UserToml,
};
use super::password::{Hashed, PasswordError};
use super::{Account, Granted, Identities, SecretKey, Seed, UserEntry, system};
use crate::access::policy::document::PolicyDocument;
use crate::access::principal::{Domain, Project, User};
use crate::domain::id::{DomainId, ProjectId, UserId};
use crate::domain::rules::Quota;
use crate::domain::session::AccessKeyId;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest name of an account, project, user, user group or policy, in characters ("Creating a User": 64).
pub const NAME_CHARS_MAX: usize = 64;
/// The shortest and longest secret key, in characters.
pub const SECRET_CHARS_MIN: usize = 8;
/// See [`SECRET_CHARS_MIN`].
pub const SECRET_CHARS_MAX: usize = 128;

/// Why a file of accounts is not used.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others could read the secrets in it.
    #[error(
        "{} can be read by group or others (mode {mode:o}), and holds secrets: chmod 600 {}", path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {rule}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        rule: String,
    },
    /// The account of `--dev` could not be made.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// Something wrong, and where in the text.
#[derive(Debug)]
struct Wrong {
    line: usize,
    rule: String,
}

/// Reads the file of accounts.
///
/// # Errors
/// [`IdentitiesError`], with file and line.
pub fn read(path: &Path) -> Result<Identities, IdentitiesError> {
    let io = |source| IdentitiesError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 && !is_a_credential_of_systemd(path) {
        return Err(IdentitiesError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        let rule = format!("the file has more than {FILE_BYTES_MAX} bytes");
        return Err(IdentitiesError::Wrong { path: path.to_owned(), line: 1, rule });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    parse_named(path, &text)
}

/// Reads the text of a file of accounts, which errors call `name`.
pub(super) fn parse_named(name: impl AsRef<Path>, text: &str) -> Result<Identities, IdentitiesError> {
    let path = name.as_ref().to_owned();
    parse(text).map_err(|Wrong { line, rule }| IdentitiesError::Wrong { path, line, rule })
}

/// systemd sets the modes in `$CREDENTIALS_DIRECTORY` itself (`LoadCredential=`).
pub(crate) fn is_a_credential_of_systemd(path: &Path) -> bool {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return false };
    let (Ok(folder), Ok(path)) = (Path::new(&folder).canonicalize(), path.canonicalize()) else {
        return false;
    };
    path.starts_with(folder)
}

fn parse(text: &str) -> Result<Identities, Wrong> {
    let lines = Lines(text);
    let file: FileToml = toml::from_str(text).map_err(|error| Wrong {
        line: lines.of(&error.span().unwrap_or(0..0)),
        rule: without_value(error.message()),
    })?;
    if file.domain.is_empty() {
        return Err(Wrong { line: 1, rule: "there is no [[domain]], so nobody could log in".to_owned() });
    }
    let mut reader =
        Reader { lines, found: Identities::default(), marks: BTreeMap::new(), ids: HashMap::new() };
    for domain in &file.domain {
        reader.domain(domain)?;
    }
    let mut found = reader.found;
    found.marks = reader.marks;
    Ok(found)
}

/// A message about a value of the wrong kind, without the value: a secret may stand where it does not belong.
fn without_value(message: &str) -> String {
    for about in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(about) {
            let kind = rest.split([' ', ',']).next().unwrap_or_default();
            let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
            return format!("{about}{kind}, expected {expected}");
        }
    }
    message.to_owned()
}

/// Where in the text something stands.
#[derive(Clone, Copy)]
struct Lines<'text>(&'text str);

impl Lines<'_> {
    fn of(&self, span: &Range<usize>) -> usize {
        let before = self.0.get(..span.start).unwrap_or(self.0);
        before.matches('\n').count() + 1
    }

    fn wrong<T>(&self, what: &Spanned<T>, rule: impl Into<String>) -> Wrong {
        Wrong { line: self.of(&what.span()), rule: rule.into() }
    }

    /// The line of a text's own line `line`. A text in `'''` or `"""` begins after the line break that follows them.
    fn inside(&self, text: &Spanned<String>, line: usize) -> usize {
        let span = text.span();
        let raw = self.0.get(span.clone()).unwrap_or_default();
        let is_broken = ["'''", "\"\"\""].iter().any(|quote| {
            raw.strip_prefix(quote).is_some_and(|raw| raw.starts_with('\n') || raw.starts_with("\r\n"))
        });
        self.of(&span) + line - 1 + usize::from(is_broken)
    }
}

/// What is being read, a domain at a time.
struct Reader<'text> {
    lines: Lines<'text>,
    found: Identities,
    /// What there is by name, and a mark that changes when it does: what a reload compares.
    marks: BTreeMap<String, [u8; 32]>,
    /// Ids that are taken, and by what.
    ids: HashMap<[u8; 16], String>,
}

/// What the grants of a domain refer to.
#[derive(Default)]
struct Names {
    projects: HashMap<String, Arc<Project>>,
    users: HashMap<String, UserId>,
    user_groups: HashMap<String, Vec<UserId>>,
    documents: HashMap<String, Arc<PolicyDocument>>,
}

impl Reader<'_> {
    fn domain(&mut self, toml: &DomainToml) -> Result<(), Wrong> {
        let name = self.name(&toml.name)?;
        let label = format!("domain {name}");
        let domain_id = DomainId::from_bytes(self.id(toml.id.as_ref(), &toml.name, &label)?);
        self.mark(&toml.name, label, &[&domain_id.to_string()])?;
        let domain = Domain { domain_id, name: name.clone() };
        let mut names = Names::default();
        for project in &toml.project {
            self.project(project, &domain, &mut names)?;
        }
        self.root(&toml.root, &domain, &mut names)?;
        for user in &toml.user {
            let UserToml { name, id, password_hash, access_key } = user;
            self.user(name, id.as_ref(), password_hash.as_ref(), access_key, &domain, false, &mut names)?;
        }
        for user_group in &toml.user_group {
            self.user_group(user_group, &domain, &mut names)?;
        }
        for policy in &toml.policy {
            self.policy(policy, &domain, &mut names)?;
        }
        for (nth, grant) in toml.grant.iter().enumerate() {
            self.grant(grant, nth, &domain, &names)?;
        }
        let mut projects: Vec<_> = names.projects.into_values().collect();
        projects.sort_by(|one, other| one.name.cmp(&other.name));
        self.found.accounts.push(Account { domain, projects });
        Ok(())
    }

    fn project(&mut self, toml: &ProjectToml, domain: &Domain, names: &mut Names) -> Result<(), Wrong> {
        let name = self.name(&toml.name)?;
        let label = format!("project {}/{name}", domain.name);
        let project_id = ProjectId::from_bytes(self.id(toml.id.as_ref(), &toml.name, &label)?);
        let quota = Quota { groups: toml.groups, members: toml.members_per_group };
        self.mark(&toml.name, label, &[&project_id.to_string(), &format!("{quota:?}")])?;
        let project =
            Arc::new(Project { project_id, name: name.clone(), domain_id: domain.domain_id, quota });
        self.found.projects.insert(project_id, Arc::clone(&project));
        names.projects.insert(name, project);
        Ok(())
    }

    fn root(&mut self, toml: &Spanned<RootToml>, domain: &Domain, names: &mut Names) -> Result<(), Wrong> {
        let RootToml { name, id, password_hash, access_key } = toml.get_ref();
        let default = Spanned::new(toml.span(), domain.name.clone());
        let name = name.as_ref().unwrap_or(&default);
        self.user(name, id.as_ref(), password_hash.as_ref(), access_key, domain, true, names)
    }

    #[expect(clippy::too_many_arguments, reason = "a root and a user differ in two of them")]
    fn user(
        &mut self,
        name: &Spanned<String>,
        id: Option<&Spanned<String>>,
        password_hash: Option<&Spanned<SecretText>>,
        access_keys: &[AccessKeyToml],
        domain: &Domain,
        is_root: bool,
        names: &mut Names,
    ) -> Result<(), Wrong> {
        let text = self.name(name)?;
        let label = format!("user {}/{text}", domain.name);
        let user_id = UserId::from_bytes(self.id(id, name, &label)?);
        let secret = password_hash.map_or("", |hash| &hash.get_ref().0);
        self.mark(name, label, &[&user_id.to_string(), &is_root.to_string(), secret])?;
        let password = match password_hash {
            None => None,
            Some(hash) => {
                let parsed = Hashed::parse(hash.get_ref().0.clone());
                Some(parsed.map_err(|error| self.lines.wrong(hash, format!("password_hash {error}")))?)
            }
        };
        let mut seed = Sha256::new().chain_update(secret);
        for key in access_keys {
            self.access_key(key, user_id, &domain.name, &text)?;
            seed.update(&key.secret.get_ref().0);
        }
        let can_log_in = password.is_some() || !access_keys.is_empty();
        let seed = can_log_in.then(|| Seed(seed.finalize().into()));
        let user = Arc::new(User::new(user_id, text.clone(), domain.clone(), is_root));
        self.found.users_by_name.insert((domain.domain_id, text.clone()), user_id);
        let entry = UserEntry { user, password, seed, granted: Granted::default() };
        self.found.users.insert(user_id, entry);
        names.users.insert(text, user_id);
        Ok(())
    }

    fn access_key(
        &mut self,
        toml: &AccessKeyToml,
        user_id: UserId,
        domain: &str,
        user: &str,
    ) -> Result<(), Wrong> {
        let access_key: AccessKeyId = toml
            .access
            .get_ref()
            .parse()
            .map_err(|error| self.lines.wrong(&toml.access, format!("access is {error}")))?;
        let secret = &toml.secret.get_ref().0;
        if !(SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&secret.chars().count()) {
            let rule = format!("secret must have {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} characters");
            return Err(self.lines.wrong(&toml.secret, rule));
        }
        self.mark(&toml.access, format!("access key {access_key}"), &[domain, user, secret])?;
        self.found.access_keys.insert(access_key, (user_id, SecretKey(secret.clone())));
        Ok(())
    }

    fn user_group(&mut self, toml: &UserGroupToml, domain: &Domain, names: &mut Names) -> Result<(), Wrong> {
        let name = self.name(&toml.name)?;
        let mut users = Vec::new();
        for user in &toml.users {
            let Some(user_id) = names.users.get(user.get_ref()) else {
                return Err(self
                    .lines
                    .wrong(user, format!("there is no user {:?} in this domain", user.get_ref())));
            };
            users.push(*user_id);
        }
        let listed: Vec<_> = toml.users.iter().map(|user| user.get_ref().as_str()).collect();
        self.mark(&toml.name, format!("user group {}/{name}", domain.name), &listed)?;
        names.user_groups.insert(name, users);
        Ok(())
    }

    fn policy(&mut self, toml: &PolicyToml, domain: &Domain, names: &mut Names) -> Result<(), Wrong> {
        let name = self.name(&toml.name)?;
        if system::named(&name).is_some() {
            return Err(self.lines.wrong(&toml.name, format!("{name:?} is the name of a system policy")));
        }
        let document = self.document(&name, &toml.document)?;
        self.mark(&toml.name, format!("policy {}/{name}", domain.name), &[toml.document.get_ref()])?;
        names.documents.insert(name, document);
        Ok(())
    }

    fn document(&self, name: &str, text: &Spanned<String>) -> Result<Arc<PolicyDocument>, Wrong> {
        let parsed = PolicyDocument::parse(name, text.get_ref());
        let document = parsed.map_err(|error| Wrong {
            line: self.lines.inside(text, error.line),
            rule: format!("policy {name:?}: {}", error.rule),
        })?;
        for depends in document.depends() {
            if system::named(depends).is_none() {
                let rule = format!("policy {name:?} depends on {depends:?}, which is no system role");
                return Err(self.lines.wrong(text, rule));
            }
        }
        Ok(Arc::new(document))
    }

    fn grant(
        &mut self,
        toml: &Spanned<GrantToml>,
        nth: usize,
        domain: &Domain,
        names: &Names,
    ) -> Result<(), Wrong> {
        let GrantToml { user_group, policies, document, scope } = toml.get_ref();
        let group = user_group.get_ref();
        let Some(user_ids) = names.user_groups.get(group) else {
            return Err(self
                .lines
                .wrong(user_group, format!("there is no user_group {group:?} in this domain")));
        };
        let mut documents = Vec::new();
        for policy in policies {
            documents.push(self.policy_named(policy, names)?);
        }
        if let Some(text) = document {
            documents.push(self.document(&format!("{group}'s grant {}", nth + 1), text)?);
        }
        if documents.is_empty() {
            return Err(self.lines.wrong(toml, "a grant without policies or a document"));
        }
        let documents = with_depends(documents);
        let (scope_text, project_id) = match scope {
            ScopeToml::AllProjects => ("all_projects".to_owned(), None),
            ScopeToml::Domain => ("domain".to_owned(), None),
            ScopeToml::Project(name) => {
                let Some(project) = names.projects.get(name.get_ref()) else {
                    let rule = format!("there is no project {:?} in this domain", name.get_ref());
                    return Err(self.lines.wrong(name, rule));
                };
                (format!("project {}", project.name), Some(project.project_id))
            }
        };
        let said: Vec<_> = policies.iter().map(|policy| policy.get_ref().as_str()).collect();
        let inline = document.as_ref().map_or("", |text| text.get_ref());
        let label = format!("grant {} of user group {}/{group} on {scope_text}", nth + 1, domain.name);
        self.mark(user_group, label, &[&said.join("\n"), inline])?;
        for user_id in user_ids {
            let Some(entry) = self.found.users.get_mut(user_id) else { continue };
            match (scope, project_id) {
                (ScopeToml::Domain, _) => entry.granted.on_domain.extend(documents.iter().cloned()),
                (_, None) => entry.granted.on_all_projects.extend(documents.iter().cloned()),
                (_, Some(project_id)) => {
                    entry
                        .granted
                        .on_projects
                        .entry(project_id)
                        .or_default()
                        .extend(documents.iter().cloned());
                }
            }
        }
        Ok(())
    }

    fn policy_named(&self, name: &Spanned<String>, names: &Names) -> Result<Arc<PolicyDocument>, Wrong> {
        if let Some(document) = names.documents.get(name.get_ref()) {
            return Ok(Arc::clone(document));
        }
        let known = system::ALL.map(|system| system.display_name).join(", ");
        let Some(system) = system::named(name.get_ref()) else {
            let rule = format!(
                "there is no policy {:?}: give it as a [[domain.policy]], or use a system one: {known}",
                name.get_ref()
            );
            return Err(self.lines.wrong(name, rule));
        };
        system.document().map_err(|error| self.lines.wrong(name, error.to_string()))
    }

    /// A name: 1 to [`NAME_CHARS_MAX`] characters, none of them a control character or a `/`.
    fn name(&self, name: &Spanned<String>) -> Result<String, Wrong> {
        let text = name.get_ref();
        let is_good = (1..=NAME_CHARS_MAX).contains(&text.chars().count())
            && !text.chars().any(|character| character.is_control() || character == '/');
        if is_good {
            return Ok(text.clone());
        }
        let rule = format!(
            "a name must have 1 to {NAME_CHARS_MAX} characters, none of them a control character or /"
        );
        Err(self.lines.wrong(name, rule))
    }

    /// The id that is given, or one that always comes of the same names.
    fn id(
        &mut self,
        id: Option<&Spanned<String>>,
        name: &Spanned<String>,
        label: &str,
    ) -> Result<[u8; 16], Wrong> {
        let (bytes, place) = if let Some(id) = id {
            let parsed = id.get_ref().parse::<ProjectId>();
            (*parsed.map_err(|error| self.lines.wrong(id, format!("id is {error}")))?.as_bytes(), id)
        } else {
            (id_of_label(label), name)
        };
        match self.ids.insert(bytes, label.to_owned()) {
            Some(other) if other != label => {
                Err(self.lines.wrong(place, format!("this id is the {other}'s too")))
            }
            _ => Ok(bytes),
        }
    }

    /// Notes that there is such a thing; there may be one of a name.
    fn mark<T>(&mut self, place: &Spanned<T>, label: String, parts: &[&str]) -> Result<(), Wrong> {
        let digest =
            parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part).chain_update([0]));
        if self.marks.contains_key(&label) {
            return Err(self.lines.wrong(place, format!("there are two of {label}")));
        }
        self.marks.insert(label, digest.finalize().into());
        Ok(())
    }
}

/// The id of what has none of its own.
pub(super) fn id_of_label(label: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(format!("ecs-groupd {label}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

/// The roles that a role depends on come with it, as the vendor's console adds them.
fn with_depends(mut documents: Vec<Arc<PolicyDocument>>) -> Vec<Arc<PolicyDocument>> {
    let mut seen: HashSet<String> = documents.iter().map(|document| document.name().to_owned()).collect();
    let mut at = 0;
    while let Some(document) = documents.get(at).cloned() {
        for name in document.depends() {
            if let Some(Ok(needed)) = system::named(name).map(system::SystemDocument::document)
                && seen.insert(name.clone())
            {
                documents.push(needed);
            }
        }
        at += 1;
    }
    documents
}
