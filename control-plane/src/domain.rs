//! Drafts become valid values here, and rules that need neither a database nor a network: who may be
//! called what, which addresses a node may have, what the fleet document says. `api` asks it, `store`
//! takes what it made.

mod api_key;
mod difference;
pub mod fleet;
mod hidden;
mod import;
mod invalid;
mod node;
mod node_address;
mod node_name;
mod password;
mod pull;
mod read;
mod role;
mod settings;
pub mod turns;
mod user;

pub use api_key::{ApiKeyDraft, NewApiKey};
pub use difference::{BeforeAfter, Changed, Changes, Difference};
pub use hidden::Hidden;
pub use import::{ImportRules, WholeFleet};
pub use invalid::Invalid;
pub use node::{NewNode, NodeDraft, NodeDraftTls, NodeRules};
pub use node_address::{AddressRules, node_url};
pub(crate) use node_name::numbered;
pub use node_name::slug;
pub use password::{
    LONGEST_PASSWORD, SHORTEST_PASSWORD, Weak, check_password, is_well_known, judge_password,
};
pub use pull::{JobDraft, NewPull, PullDraft, rules_allow};
pub use read::draft;
pub use role::{Role, UnknownRole};
pub use settings::{SETTING_KEYS, Settings, SettingsPatch};
pub use user::{NewUser, UserChange, UserDraft};
