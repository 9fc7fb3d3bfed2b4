//! The vendor's own roles and policies, as far as they say anything about ECS groups.
//!
//! Sources: "Permissions" (IAM), "Permissions Management" (ECS); the names in tokens are the internal ones.

use std::sync::Arc;

use crate::access::policy::document::{DocumentError, PolicyDocument};

/// One of the vendor's roles or policies.
#[derive(Clone, Copy, Debug)]
pub struct SystemDocument {
    /// The name that people grant it by.
    pub display_name: &'static str,
    /// The name that stands in a token's roles.
    pub internal_name: &'static str,
    source: &'static str,
}

impl SystemDocument {
    /// The document.
    ///
    /// # Errors
    /// None that can happen: a test reads them all.
    pub fn document(&self) -> Result<Arc<PolicyDocument>, DocumentError> {
        PolicyDocument::parse(self.display_name, self.source).map(Arc::new)
    }
}

/// All of them.
pub const ALL: [SystemDocument; 9] = [
    SystemDocument {
        display_name: "Tenant Administrator",
        internal_name: "te_admin",
        source: r#"{"Version":"1.0","Statement":[
            {"Effect":"Allow","Action":["*"]},
            {"Effect":"Deny","Action":["identity:*"]}]}"#,
    },
    SystemDocument {
        display_name: "Tenant Guest",
        internal_name: "readonly",
        source: r#"{"Version":"1.0","Statement":[
            {"Effect":"Allow","Action":["*:*:Get*","*:*:List*"]},
            {"Effect":"Deny","Action":["identity:*"]}]}"#,
    },
    SystemDocument {
        display_name: "Security Administrator",
        internal_name: "secu_admin",
        source: r#"{"Version":"1.0","Statement":[{"Effect":"Allow","Action":["iam:*:*"]}]}"#,
    },
    SystemDocument {
        display_name: "Agent Operator",
        internal_name: "te_agency",
        source: r#"{"Version":"1.0","Statement":[{"Effect":"Allow","Action":["iam:tokens:assume"]}]}"#,
    },
    SystemDocument {
        display_name: "Server Administrator",
        internal_name: "server_adm",
        source: r#"{"Version":"1.0","Statement":[{"Effect":"Allow","Action":["ecs:*:*"]}],
            "Depends":[{"catalog":"BASE","display_name":"Tenant Guest"}]}"#,
    },
    SystemDocument {
        display_name: "CTS Administrator",
        internal_name: "cts_adm",
        source: r#"{"Version":"1.0","Statement":[{"Effect":"Allow","Action":["cts:*:*"]}],
            "Depends":[{"catalog":"BASE","display_name":"Tenant Guest"}]}"#,
    },
    SystemDocument {
        display_name: "ECS FullAccess",
        internal_name: "system_all_3",
        source: r#"{"Version":"1.1","Statement":[
            {"Effect":"Allow","Action":["ecs:*:*","evs:*:get","evs:*:list","vpc:*:get","vpc:*:list","ims:*:get*","ims:*:list*"]}]}"#,
    },
    SystemDocument {
        display_name: "ECS CommonOperations",
        internal_name: "system_all_1",
        source: r#"{"Version":"1.1","Statement":[
            {"Effect":"Allow","Action":["ecs:*:get*","ecs:*:list*","ecs:*:start","ecs:*:stop","ecs:*:reboot","ecs:serverGroups:manage"]}]}"#,
    },
    SystemDocument {
        display_name: "ECS ReadOnlyAccess",
        internal_name: "system_all_8",
        source: r#"{"Version":"1.1","Statement":[
            {"Effect":"Allow","Action":["ecs:*:get*","ecs:*:list*","ecs:serverGroups:manage","ecs:serverVolumes:use"]}]}"#,
    },
];

/// The role or policy that people grant by this name.
#[must_use]
pub fn named(display_name: &str) -> Option<&'static SystemDocument> {
    ALL.iter().find(|document| document.display_name == display_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_document_can_be_read_and_what_it_depends_on_is_there() {
        for system in &ALL {
            let document = system.document().unwrap();
            assert!(document.depends().iter().all(|name| named(name).is_some()), "{}", system.display_name);
        }
    }
}
