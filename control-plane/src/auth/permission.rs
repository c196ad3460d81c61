//! Permissions: what a role may do. Handlers name the permission that they need, never a role.

use crate::domain::Role;

/// One thing that a handler may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See nodes, models, keys (not their text), settings, jobs and the state of the planes.
    ReadFleet,
    /// Add, change, drain and remove nodes.
    ChangeNodes,
    /// Make, change, rotate and revoke keys of the data plane.
    ChangeKeys,
    /// Change the strategy and what else the fleet document holds.
    ChangeSettings,
    /// Put a whole fleet document in the place of nodes, keys and settings.
    ImportFleet,
    /// Start and cancel pulls.
    Pull,
    /// See who used how much.
    ReadUsage,
    /// See who changed what, and from where.
    ReadAudit,
    /// Add, change and remove users, and end their sessions.
    ManageUsers,
    /// Change one's own password; see and end one's own sessions and personal tokens.
    OwnAccount,
}

impl Permission {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::ReadFleet,
        Self::ChangeNodes,
        Self::ChangeKeys,
        Self::ChangeSettings,
        Self::ImportFleet,
        Self::Pull,
        Self::ReadUsage,
        Self::ReadAudit,
        Self::ManageUsers,
        Self::OwnAccount,
    ];

    /// As it stands in refusals and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadFleet => "read_fleet",
            Self::ChangeNodes => "change_nodes",
            Self::ChangeKeys => "change_keys",
            Self::ChangeSettings => "change_settings",
            Self::ImportFleet => "import_fleet",
            Self::Pull => "pull",
            Self::ReadUsage => "read_usage",
            Self::ReadAudit => "read_audit",
            Self::ManageUsers => "manage_users",
            Self::OwnAccount => "own_account",
        }
    }

    /// The least role that has it. Exhaustive, so that a new permission must choose.
    fn least(self) -> Role {
        match self {
            Self::ReadFleet | Self::ReadUsage | Self::OwnAccount => Role::Viewer,
            // the audit names people and their addresses: not for everybody who may look
            Self::ChangeNodes
            | Self::ChangeKeys
            | Self::ChangeSettings
            | Self::Pull
            | Self::ReadAudit => Role::Operator,
            // it takes out whatever the document does not name
            Self::ImportFleet | Self::ManageUsers => Role::Admin,
        }
    }
}

impl Role {
    /// Whether somebody of this role may do it.
    pub fn allows(self, permission: Permission) -> bool {
        self >= permission.least()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(role: Role) -> Vec<&'static str> {
        let allowed = Permission::ALL.into_iter().filter(|it| role.allows(*it));
        allowed.map(Permission::as_str).collect()
    }

    #[test]
    fn a_viewer_reads_and_has_an_account() {
        assert_eq!(
            of(Role::Viewer),
            ["read_fleet", "read_usage", "own_account"]
        );
    }

    #[test]
    fn an_operator_does_all_but_manage_users_and_import() {
        let all = Permission::ALL.map(Permission::as_str).into_iter();
        let admins = ["import_fleet", "manage_users"];
        let expected: Vec<_> = all.filter(|name| !admins.contains(name)).collect();
        assert_eq!(of(Role::Operator), expected);
    }

    #[test]
    fn an_admin_does_everything() {
        assert_eq!(of(Role::Admin), Permission::ALL.map(Permission::as_str));
    }
}
