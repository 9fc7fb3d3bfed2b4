//! The accounts that the service knows: read from `identities.toml`, or the one of `--dev`.
//!
//! Invariant: what is given out is all of one reading of the file; nothing here prints a secret.

pub mod dev;
pub mod file;
pub mod lockout;
pub mod password;
pub mod system;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use self::dev::DevSecrets;
use self::file::IdentitiesError;
use self::password::{Cost, Hashed, PasswordError};
use crate::access::policy::document::PolicyDocument;
use crate::access::principal::{Credential, Domain, Principal, Project, User};
use crate::access::token;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::{DomainId, ProjectId, UserId};
use crate::domain::session::{AccessKeyId, Scope, SecretDigest};

/// `config/identities.example.toml`, as `ecs-groupd identity example` prints it.
pub const EXAMPLE: &str = include_str!("../../config/identities.example.toml");

/// Who there is.
#[derive(Debug, Default)]
pub struct Identities {
    accounts: Vec<Account>,
    projects: HashMap<ProjectId, Arc<Project>>,
    users: HashMap<UserId, UserEntry>,
    users_by_name: HashMap<(DomainId, String), UserId>,
    access_keys: HashMap<AccessKeyId, (UserId, SecretKey)>,
    /// `--dev` only: a token that is always good.
    fixed_token: Option<(SecretDigest, UserId, ProjectId)>,
    /// `--dev` only: who a caller without credentials is.
    anonymous: Option<(UserId, ProjectId)>,
    marks: BTreeMap<String, [u8; 32]>,
    /// For a file without any password.
    decoy: OnceLock<Hashed>,
}

/// An account and its projects, by name.
#[derive(Debug)]
pub struct Account {
    /// The account.
    pub domain: Domain,
    /// Its projects.
    pub projects: Vec<Arc<Project>>,
}

#[derive(Debug)]
struct UserEntry {
    user: Arc<User>,
    password: Option<Hashed>,
    /// From everything that the user logs in with; its tokens and temporary keys end when it changes. `None` for a
    /// user who cannot log in.
    seed: Option<Seed>,
    granted: Granted,
}

#[derive(Clone, Copy)]
struct Seed([u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The documents that the user's groups are granted, by where.
#[derive(Debug, Default)]
struct Granted {
    on_domain: Vec<Arc<PolicyDocument>>,
    on_all_projects: Vec<Arc<PolicyDocument>>,
    on_projects: HashMap<ProjectId, Vec<Arc<PolicyDocument>>>,
    /// The same for each project that was asked for, all of it together.
    together: RwLock<HashMap<Option<ProjectId>, Documents>>,
}

/// Documents that every request of one user in one project shares.
type Documents = Arc<[Arc<PolicyDocument>]>;

impl Granted {
    /// What counts in a project; `None` for the account as a whole.
    fn in_force(&self, project_id: Option<ProjectId>) -> Documents {
        if let Some(documents) = self.together.read().unwrap_or_else(PoisonError::into_inner).get(&project_id)
        {
            return Arc::clone(documents);
        }
        let documents: Documents = match project_id {
            None => self.on_domain.iter().cloned().collect(),
            Some(project_id) => {
                let here = self.on_projects.get(&project_id).into_iter().flatten();
                self.on_all_projects.iter().chain(here).cloned().collect()
            }
        };
        let mut together = self.together.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(together.entry(project_id).or_insert(documents))
    }

    fn has_any_on(&self, project_id: ProjectId) -> bool {
        !self.on_all_projects.is_empty() || self.on_projects.contains_key(&project_id)
    }
}

/// The secret half of an access key (SK).
#[derive(Clone)]
pub struct SecretKey(String);

impl SecretKey {
    /// The secret, to verify with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// How somebody names an account.
#[derive(Clone, Debug)]
pub enum DomainRef {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// How somebody names a user.
#[derive(Clone, Debug)]
pub enum UserRef {
    /// By id.
    Id(String),
    /// By name, in an account.
    Name {
        /// The account.
        domain: DomainRef,
        /// The user's name there.
        name: String,
    },
}

/// What a login is to be good for.
#[derive(Clone, Debug)]
pub enum ScopeRef {
    /// A project, by id.
    ProjectId(String),
    /// A project, by name, in an account; the user's own when none is named.
    ProjectName {
        /// The project's name.
        name: String,
        /// The account.
        domain: Option<DomainRef>,
    },
    /// An account.
    Domain(DomainRef),
    /// The user's own account.
    Unscoped,
}

impl Identities {
    /// The one account of `--dev`. With `is_anonymous_allowed`, a caller without credentials is that account.
    ///
    /// # Errors
    /// When its password could not be hashed.
    pub fn dev(secrets: &DevSecrets, is_anonymous_allowed: bool) -> Result<Self, IdentitiesError> {
        let mut identities = file::parse_named("--dev", &secrets.to_toml()?)?;
        let user_id = identities.users.keys().next().copied();
        let project_id = identities.projects.keys().next().copied();
        if let Some((user_id, project_id)) = user_id.zip(project_id) {
            identities.fixed_token = Some((token::digest(&secrets.token), user_id, project_id));
            identities.anonymous = is_anonymous_allowed.then_some((user_id, project_id));
        }
        Ok(identities)
    }

    /// Who a caller without credentials is, if anybody.
    #[must_use]
    pub fn anonymous(&self) -> Option<Principal> {
        let (user_id, project_id) = self.anonymous?;
        self.principal(user_id, Scope::Project(project_id), Credential::Anonymous)
    }

    /// Whose token this is, if it is one that is always good.
    #[must_use]
    pub fn by_fixed_token(&self, presented: &str) -> Option<Principal> {
        let (digest, user_id, project_id) = self.fixed_token?;
        let is_it = token::matches(&digest, presented);
        is_it.then(|| self.principal(user_id, Scope::Project(project_id), Credential::Token)).flatten()
    }

    /// The user with what it may do there; `None` when there is no such user, or the scope is not its account's.
    #[must_use]
    pub fn principal(&self, user_id: UserId, scope: Scope, credential: Credential) -> Option<Principal> {
        let entry = self.users.get(&user_id)?;
        let domain_id = entry.user.domain.domain_id;
        let project = match scope {
            Scope::Project(project_id) => Some(self.project_of(domain_id, project_id)?),
            Scope::Domain(scoped) if scoped == domain_id => None,
            Scope::Domain(_) => return None,
        };
        let documents = entry.granted.in_force(project.as_ref().map(|project| project.project_id));
        Some(Principal { user: Arc::clone(&entry.user), project, credential, documents })
    }

    /// A project of this account.
    #[must_use]
    pub fn project_of(&self, domain_id: DomainId, project_id: ProjectId) -> Option<Arc<Project>> {
        self.projects.get(&project_id).filter(|project| project.domain_id == domain_id).cloned()
    }

    /// A user.
    #[must_use]
    pub fn user(&self, user_id: UserId) -> Option<Arc<User>> {
        self.users.get(&user_id).map(|entry| Arc::clone(&entry.user))
    }

    /// An access key's user and secret.
    #[must_use]
    pub fn access_key(&self, access_key: &AccessKeyId) -> Option<(Arc<User>, SecretKey)> {
        let (user_id, secret) = self.access_keys.get(access_key)?;
        Some((self.user(*user_id)?, secret.clone()))
    }

    /// A mark of what the user logs in with, which changes when that does; `None` for a user who cannot log in.
    #[must_use]
    pub fn credentials_digest(&self, user_id: UserId) -> Option<SecretDigest> {
        let Seed(seed) = self.users.get(&user_id)?.seed.as_ref()?;
        Some(SecretDigest::from_bytes(Sha256::digest(seed).into()))
    }

    /// The secret of a temporary access key. It is kept nowhere: it comes of what its user logs in with. `None` for a
    /// user who cannot log in.
    #[must_use]
    pub fn temporary_secret(&self, user_id: UserId, access_key: &AccessKeyId) -> Option<SecretKey> {
        let Seed(seed) = self.users.get(&user_id)?.seed.as_ref()?;
        let mac = Hmac::<Sha256>::new_from_slice(seed).ok()?.chain_update(access_key.as_str());
        Some(SecretKey(base16ct::lower::encode_string(&mac.finalize().into_bytes()[..20])))
    }

    /// The user that is named so, and what its password is checked against. A name that nobody has, or somebody
    /// without a password, is checked against some user's hash, always the same one: so it takes as long as a user's
    /// does, also where not all hashes cost the same.
    ///
    /// # Errors
    /// When the system has no random bytes to give.
    pub fn login(&self, user: &UserRef) -> Result<(Option<Arc<User>>, Hashed), PasswordError> {
        let entry = self.find_user(user).and_then(|user_id| self.users.get(&user_id));
        match entry.and_then(|entry| Some((entry, entry.password.clone()?))) {
            Some((entry, password)) => Ok((Some(Arc::clone(&entry.user)), password)),
            None => Ok((None, self.decoy(&self.label(user))?)),
        }
    }

    fn decoy(&self, label: &str) -> Result<Hashed, PasswordError> {
        let mut hashes: Vec<_> =
            self.users.iter().filter_map(|(id, entry)| Some((id, entry.password.as_ref()?))).collect();
        hashes.sort_by_key(|(user_id, _)| **user_id);
        let digest = Sha256::digest(label.as_bytes());
        let number = usize::from(digest[0]) << 8 | usize::from(digest[1]);
        if let Some((_, hash)) = hashes.get(number % hashes.len().max(1)) {
            return Ok((*hash).clone());
        }
        if let Some(decoy) = self.decoy.get() {
            return Ok(decoy.clone());
        }
        let costly = Hashed::of("", Cost::Chosen)?;
        Ok(self.decoy.get_or_init(|| costly).clone())
    }

    /// Whom failed logins are counted for: the user's id, however it is named. A name that nobody has is counted under
    /// the id that it would have, so that the counts do not tell who there is.
    #[must_use]
    pub fn label(&self, user: &UserRef) -> String {
        match (self.find_user(user), user) {
            (Some(user_id), _) => user_id.to_string(),
            (None, UserRef::Id(id)) => Excerpt::of(id).as_str().to_owned(),
            (None, UserRef::Name { domain, name }) => {
                let named = match domain {
                    DomainRef::Id(text) | DomainRef::Name(text) => Excerpt::of(text).as_str().to_owned(),
                };
                let domain = self.domain(domain).map_or(named, |domain| domain.name.clone());
                let label = format!("user {domain}/{}", Excerpt::of(name).as_str());
                UserId::from_bytes(file::id_of_label(&label)).to_string()
            }
        }
    }

    fn find_user(&self, user: &UserRef) -> Option<UserId> {
        match user {
            UserRef::Id(id) => id.parse().ok().filter(|user_id| self.users.contains_key(user_id)),
            UserRef::Name { domain, name } => {
                let domain_id = self.domain(domain)?.domain_id;
                self.users_by_name.get(&(domain_id, name.clone())).copied()
            }
        }
    }

    /// The account that is named so.
    #[must_use]
    pub fn domain(&self, domain: &DomainRef) -> Option<&Domain> {
        let is_it = |account: &&Account| match domain {
            DomainRef::Id(id) => account.domain.domain_id.to_string() == *id,
            DomainRef::Name(name) => account.domain.name == *name,
        };
        self.accounts.iter().find(is_it).map(|account| &account.domain)
    }

    /// What a user may log in to by this name, if it is of its own account.
    #[must_use]
    pub fn scope(&self, user: &User, scope: &ScopeRef) -> Option<Scope> {
        let own = user.domain.domain_id;
        match scope {
            ScopeRef::Unscoped => Some(Scope::Domain(own)),
            ScopeRef::Domain(domain) => {
                self.domain(domain).filter(|domain| domain.domain_id == own).map(|_own| Scope::Domain(own))
            }
            ScopeRef::ProjectId(id) => {
                Some(Scope::Project(self.project_of(own, id.parse().ok()?)?.project_id))
            }
            ScopeRef::ProjectName { name, domain } => {
                let is_own = domain
                    .as_ref()
                    .is_none_or(|domain| self.domain(domain).is_some_and(|domain| domain.domain_id == own));
                let project = self.projects_of(own).iter().find(|project| project.name == *name)?;
                is_own.then_some(Scope::Project(project.project_id))
            }
        }
    }

    /// The projects of an account, by name.
    #[must_use]
    pub fn projects_of(&self, domain_id: DomainId) -> &[Arc<Project>] {
        let account = self.accounts.iter().find(|account| account.domain.domain_id == domain_id);
        account.map_or(&[], |account| &account.projects)
    }

    /// Those of them that the user may do anything in.
    #[must_use]
    pub fn projects_open_to(&self, user: &User) -> Vec<Arc<Project>> {
        let granted = self.users.get(&user.user_id).map(|entry| &entry.granted);
        let is_open = |project: &&Arc<Project>| {
            user.is_root || granted.is_some_and(|granted| granted.has_any_on(project.project_id))
        };
        self.projects_of(user.domain.domain_id).iter().filter(is_open).cloned().collect()
    }

    /// Every account.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// What there is, by name: `user acme/alice` and the like.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.marks.keys().map(String::as_str)
    }

    /// Every user, in no order.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().map(|entry| &entry.user)
    }

    /// What is different in `newer`, a line each; no secret is in it.
    #[must_use]
    pub fn differences(&self, newer: &Self) -> Vec<String> {
        let gone = self.marks.keys().filter(|label| !newer.marks.contains_key(*label));
        let gone = gone.map(|label| format!("{label} removed"));
        let there = newer.marks.iter().filter_map(|(label, mark)| match self.marks.get(label) {
            None => Some(format!("{label} added")),
            Some(before) if before != mark => Some(format!("{label} changed")),
            Some(_) => None,
        });
        gone.chain(there).collect()
    }
}

/// The accounts in force; a reload puts others in their place, and requests in flight go on with theirs.
#[derive(Debug)]
pub struct Current(RwLock<Arc<Identities>>);

impl Current {
    /// These, until others come.
    #[must_use]
    pub fn new(identities: Identities) -> Self {
        Self(RwLock::new(Arc::new(identities)))
    }

    /// The ones in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Identities> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in their place.
    pub fn replace(&self, identities: Identities) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identities);
    }
}
