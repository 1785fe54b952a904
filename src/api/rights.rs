//! Which role each route asks for: one table, looked at before any handler runs. A route that is not in it is refused.

use axum::http::Method;

use crate::access::Role;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: health only.
    Open,
    /// To be known.
    Known,
    /// To look.
    Read,
    /// To submit and to end.
    Submit,
    /// To administer; not within one project.
    Admin,
    /// To be a worker host. Its leases decide about what.
    Work,
}

impl Need {
    /// Whether a caller of this role and reach has it.
    pub fn is_met(self, role: Role, whole: bool) -> bool {
        match (self, role) {
            (Self::Open | Self::Known, _) => true,
            (Self::Read, Role::Read | Role::Submit | Role::Approve | Role::Admin) => true,
            (Self::Read, Role::Worker) => false,
            (Self::Submit, Role::Submit | Role::Admin) => true,
            (Self::Submit, Role::Read | Role::Approve | Role::Worker) => false,
            (Self::Admin, Role::Admin) => whole,
            (Self::Admin, Role::Read | Role::Submit | Role::Approve | Role::Worker) => false,
            (Self::Work, Role::Worker | Role::Admin) => whole,
            (Self::Work, Role::Read | Role::Submit | Role::Approve) => false,
        }
    }
}

/// Method, path and need. HEAD is GET's.
pub const RIGHTS: [(&str, &str, Need); 37] = [
    ("GET", "/livez", Need::Open),
    ("GET", "/readyz", Need::Open),
    ("GET", "/metrics", Need::Read),
    ("GET", "/api/v1/openapi.json", Need::Known),
    ("GET", "/api/v1/docs", Need::Known),
    ("GET", "/api/v1/whoami", Need::Known),
    ("GET", "/api/v1/policies", Need::Read),
    ("GET", "/api/v1/slots", Need::Admin),
    ("GET", "/api/v1/projects", Need::Read),
    ("GET", "/api/v1/projects/{name}", Need::Read),
    ("PUT", "/api/v1/projects/{name}", Need::Admin),
    ("POST", "/api/v1/runs", Need::Submit),
    ("POST", "/api/v1/runs/batch", Need::Submit),
    ("POST", "/api/v1/runs/attach", Need::Submit),
    ("GET", "/api/v1/runs", Need::Read),
    ("GET", "/api/v1/runs/{id}", Need::Read),
    ("GET", "/api/v1/runs/{id}/events", Need::Read),
    ("GET", "/api/v1/runs/{id}/logs", Need::Read),
    ("GET", "/api/v1/runs/{id}/egress", Need::Read),
    ("GET", "/api/v1/runs/{id}/artifacts", Need::Read),
    ("GET", "/api/v1/runs/{id}/artifacts/{*path}", Need::Read),
    ("GET", "/api/v1/runs/{id}/outputs", Need::Read),
    ("GET", "/api/v1/runs/{id}/changes", Need::Read),
    ("POST", "/api/v1/runs/{id}/cancel", Need::Submit),
    ("POST", "/api/v1/runs/{id}/retry", Need::Submit),
    ("PUT", "/api/v1/workspaces/{digest}", Need::Submit),
    ("HEAD", "/api/v1/workspaces/{digest}", Need::Submit),
    ("GET", "/api/v1/tokens", Need::Admin),
    ("POST", "/api/v1/tokens", Need::Admin),
    ("DELETE", "/api/v1/tokens/{name}", Need::Admin),
    ("GET", "/api/v1/workers", Need::Admin),
    ("POST", "/api/v1/workers/{name}/drain", Need::Admin),
    ("POST", "/api/v1/workers/{name}/resume", Need::Admin),
    ("POST", "/api/v1/work/{id}/log", Need::Work),
    ("GET", "/api/v1/work/{id}/outputs/{index}", Need::Work),
    ("PUT", "/api/v1/work/{id}/outputs/{index}", Need::Work),
    ("GET", "/api/v1/work/{id}/workspace", Need::Work),
];

/// A route's path as the document has it: there a parameter may be of several parts without being marked.
pub fn documented(path: &str) -> String {
    path.replace("{*", "{")
}

/// What a matched route asks for; `None` is refused.
pub fn need(method: &Method, path: &str) -> Option<Need> {
    let find = |method: &str| RIGHTS.iter().find(|it| it.0 == method && it.1 == path).map(|it| it.2);
    match find(method.as_str()) {
        None if *method == Method::HEAD => find("GET"),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_without_a_need_is_refused() {
        assert_eq!(need(&Method::DELETE, "/api/v1/runs/{id}"), None);
        assert_eq!(need(&Method::GET, "/api/v1/anything"), None);
    }

    #[test]
    fn an_administrator_of_one_project_makes_no_tokens() {
        assert!(!Need::Admin.is_met(Role::Admin, false));
        assert!(Need::Admin.is_met(Role::Admin, true));
    }

    #[test]
    fn who_only_looks_submits_nothing() {
        assert!(!Need::Submit.is_met(Role::Read, true));
        assert!(!Need::Submit.is_met(Role::Approve, true));
    }

    #[test]
    fn a_worker_does_its_work_and_nothing_else() {
        for need in [Need::Read, Need::Submit, Need::Admin] {
            assert!(!need.is_met(Role::Worker, true), "{need:?}");
        }
        assert!(Need::Work.is_met(Role::Worker, true));
        assert!(!Need::Work.is_met(Role::Worker, false));
        for role in [Role::Read, Role::Submit, Role::Approve] {
            assert!(!Need::Work.is_met(role, true), "{role:?}");
        }
    }
}
