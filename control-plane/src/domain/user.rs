//! Users of the control plane: their names, and passwords that are worth the name.

use serde::Deserialize;

use super::password::judge_password;
use super::read::is_plain;
use super::{Hidden, Invalid, Role};

/// What is said of a user to create or change it. What is absent stays, or is the default.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDraft {
    /// Unique, whatever the case of its letters; letters, digits, `-`, `_`, `.`, `@` and `+`.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// May be empty.
    #[schema(max_length = 254)]
    pub email: Option<String>,
    /// Never given back.
    #[schema(value_type = Option<String>, min_length = 10, max_length = 512)]
    pub password: Option<Hidden>,
    /// `viewer` unless said otherwise.
    pub role: Option<Role>,
    /// `false`: cannot log in.
    pub is_active: Option<bool>,
    /// Has to choose another password before anything else.
    pub must_change_password: Option<bool>,
}

/// A valid user: everything of it that can be set, but for the password's hash, which `auth` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// As written.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// What it may do.
    pub role: Role,
    /// Whether it can log in.
    pub is_active: bool,
    /// Has to choose another password before anything else.
    pub must_change_password: bool,
}

/// A valid change: the user as it shall be, and its new password where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChange {
    /// As it shall be.
    pub user: NewUser,
    /// To be hashed.
    pub password: Option<Hidden>,
}

impl UserDraft {
    /// A new user. It needs a name and a password.
    pub fn create(self) -> Result<UserChange, Invalid> {
        let mut invalid = Invalid::default();
        for (field, is_there) in [
            ("name", self.name.is_some()),
            ("password", self.password.is_some()),
        ] {
            if !is_there {
                invalid.add(field, "is required");
            }
        }
        let nobody = NewUser {
            name: String::new(),
            email: String::new(),
            role: Role::Viewer,
            is_active: true,
            must_change_password: false,
        };
        self.over(nobody, invalid)
    }

    /// PUT and PATCH: what is absent stays.
    pub fn patch(self, present: NewUser) -> Result<UserChange, Invalid> {
        self.over(present, Invalid::default())
    }

    fn over(self, mut user: NewUser, mut invalid: Invalid) -> Result<UserChange, Invalid> {
        if let Some(name) = self.name {
            if is_user_name(&name) {
                user.name = name;
            } else {
                let words = "must be 1 to 64 letters, digits, `-`, `_`, `.`, `@` or `+`";
                invalid.add("name", words);
            }
        }
        if let Some(email) = self.email {
            let email = email.trim();
            let fits =
                email.len() <= 254 && is_plain(email) && !email.contains(char::is_whitespace);
            let is_address = email
                .split_once('@')
                .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty());
            if email.is_empty() || (fits && is_address) {
                email.clone_into(&mut user.email);
            } else {
                invalid.add("email", "must be an address, as a@example.org");
            }
        }
        if let Some(password) = &self.password
            && let Err(weak) = judge_password(password.reveal(), &user.name)
        {
            invalid.add("password", weak.to_string());
        }
        user.role = self.role.unwrap_or(user.role);
        user.is_active = self.is_active.unwrap_or(user.is_active);
        user.must_change_password = self
            .must_change_password
            .unwrap_or(user.must_change_password);
        invalid.or_ok()?;
        Ok(UserChange {
            user,
            password: self.password,
        })
    }
}

/// As Django's, whose users are taken over.
fn is_user_name(name: &str) -> bool {
    (1..=64).contains(&name.chars().count())
        && name
            .chars()
            .all(|letter| letter.is_alphanumeric() || "-_.@+".contains(letter))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::draft;

    #[test]
    fn every_problem_is_told_at_once() {
        let body = json!({"name": "a b", "email": "nobody", "password": "short"});
        let invalid = draft::<UserDraft>(body, &[]).unwrap().create().unwrap_err();
        let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["email", "name", "password"]);
        let missing = UserDraft::default().create().unwrap_err();
        assert_eq!(missing.fields.len(), 2);
        let role = draft::<UserDraft>(json!({"role": "root"}), &[]).unwrap_err();
        assert!(role.fields.contains_key("role"), "{role}");
    }
}
