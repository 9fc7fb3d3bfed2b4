//! What the URL names: a project, a group and an ECS. All are taken as they are written, and looked at after the caller.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use crate::api::error::Failure;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::{GroupId, ProjectId, ServerId};

/// The project of the URL. A text that is no project id is nobody's project, and denied like another's.
#[derive(Clone, Copy, Debug)]
pub struct UrlProject(Option<ProjectId>);

impl UrlProject {
    /// The project, if the text is a project id.
    #[must_use]
    pub const fn id(self) -> Option<ProjectId> {
        self.0
    }
}

impl FromRequest for UrlProject {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.match_info().query("project_id").parse().ok())))
    }
}

/// The group of the URL. A text that is no UUID is a group that does not exist: Nova does not check the form either.
#[derive(Clone, Debug)]
pub struct UrlGroup(String);

impl UrlGroup {
    /// That of a request; of one whose URL names none, a text that is no id.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        Self(request.match_info().query("server_group_id").to_owned())
    }

    /// The group's id.
    ///
    /// # Errors
    /// "Not found", when the text is no UUID.
    pub fn id(&self) -> Result<GroupId, Failure> {
        self.0.parse().map_err(|_not_a_uuid| self.not_found())
    }

    /// "Not found", naming the text.
    #[must_use]
    pub fn not_found(&self) -> Failure {
        Failure::NoSuchGroup { group: Excerpt::of(&self.0) }
    }
}

impl FromRequest for UrlGroup {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}

/// The ECS of the URL. A text that is no UUID is an ECS that does not exist.
#[derive(Clone, Debug)]
pub struct UrlServer(String);

impl UrlServer {
    /// The ECS's id.
    ///
    /// # Errors
    /// "Not found", when the text is no UUID.
    pub fn id(&self) -> Result<ServerId, Failure> {
        self.0.parse().map_err(|_not_a_uuid| self.not_found())
    }

    /// "Not found", naming the text.
    #[must_use]
    pub fn not_found(&self) -> Failure {
        Failure::NoSuchServer { server: Excerpt::of(&self.0) }
    }
}

impl FromRequest for UrlServer {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.match_info().query("server_id").to_owned())))
    }
}
