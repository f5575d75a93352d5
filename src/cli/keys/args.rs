//! What can be typed behind `keyward keys`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::config::parse_duration;
use crate::keys::{KeyLimit, parse_range};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for an organization, a user, or a user within an organization
    Create(CreateArgs),
    /// List keys
    List(ListArgs),
    /// Show everything that is known of a key
    Show(IdArgs),
    /// Give a key another text, under the same id
    Rotate(RotateArgs),
    /// Take a key back, at once and for good
    Revoke(RevokeArgs),
    /// Add keys that were made elsewhere, by the SHA-256 of their text
    Import(ImportArgs),
    /// Delete the records of keys that were revoked or have expired long ago
    Prune(PruneArgs),
    /// Tell how many keys hang on which pepper
    Peppers(PeppersArgs),
    /// Have a running proxy forget verified keys, through its admin API
    Purge(PurgeArgs),
    /// Make a token for `keys.serve.tokens`, and show what the configuration needs of it
    Token(TokenArgs),
}

/// Where the store is found and how the answer is written.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The configuration whose store is meant
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    pub config: PathBuf,
    /// Answer with one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Which key service is asked, instead of the configuration's store.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Ask the key service at this URL, such as https://keys.example.com, instead of the configuration's store
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "config")]
    pub url: Option<String>,
    /// The file that holds a token of the service
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// The certificate authorities that the service's certificate may be of, in PEM, instead of the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
}

/// `keyward keys token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Answer with one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// `keyward keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What the key is for, in your words
    #[arg(long)]
    pub name: String,
    /// The organization that the key speaks for
    #[arg(long, alias = "org", value_name = "CODE")]
    pub org_code: Option<String>,
    /// The user that the key speaks for
    #[arg(long, alias = "user", value_name = "ID")]
    pub user_id: Option<String>,
    /// A scope of the key, such as write:ai_chat; can be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// How long the key lives, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// An address range that callers must be in, such as 10.0.0.0/8; can be given several times
    #[arg(long, value_name = "CIDR", value_parser = parse_range)]
    pub allow_from: Vec<IpNet>,
    /// A limit of the key's own, such as 100/1m
    #[arg(long, value_name = "N/DURATION", value_parser = limit)]
    pub limit: Option<KeyLimit>,
    /// A further fact, such as plan=gold; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = entry)]
    pub meta: Vec<(String, String)>,
    /// Who makes the key, in your words
    #[arg(long, value_name = "NAME")]
    pub created_by: Option<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only keys of this organization
    #[arg(long, alias = "org", value_name = "CODE")]
    pub org_code: Option<String>,
    /// Only keys of this user
    #[arg(long, alias = "user", value_name = "ID")]
    pub user_id: Option<String>,
    /// Only keys whose name begins like this
    #[arg(long, value_name = "TEXT")]
    pub name_prefix: Option<String>,
    /// Only keys of this status
    #[arg(long)]
    pub status: Option<Status>,
    /// Only keys behind this id, which need not exist any longer
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// How many keys at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What a key is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Status {
    Active,
    Revoked,
    Expired,
}

/// `keyward keys show`.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The key's id, as `keyward keys list` shows it
    pub id: String,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The key's id, as `keyward keys list` shows it
    pub id: String,
    /// How long the former text still opens the key, up to 365d; not at all unless given
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The key's id, as `keyward keys list` shows it
    pub id: String,
    /// Why, in your words
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// JSON Lines, or CSV with a head line; docs/operations.md lists the fields
    pub file: PathBuf,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// How long ago at least, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older_than: Duration,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys peppers`.
#[derive(Debug, Args)]
pub struct PeppersArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    pub what: PurgeWhat,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Which proxy is asked, instead of the configuration's own.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Ask the admin API at this URL, such as http://localhost:9901, instead of that of the configuration
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "config")]
    pub url: Option<String>,
    /// The file that holds the token of the admin API
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// The certificate authorities that the certificate at the URL may be of, in PEM, instead of the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
}

/// Which keys a proxy forgets.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PurgeWhat {
    /// The key of this id
    #[arg(long = "key", value_name = "ID")]
    pub key_id: Option<String>,
    /// The keys of this organization
    #[arg(long, alias = "org", value_name = "CODE")]
    pub org_code: Option<String>,
    /// All keys
    #[arg(long)]
    pub all: bool,
}

impl KeysCommand {
    /// Where the store is, for every command that needs one.
    pub fn common(&self) -> Option<&CommonArgs> {
        Some(match self {
            Self::Token(_) => return None,
            Self::Create(args) => &args.common,
            Self::List(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Rotate(args) => &args.common,
            Self::Revoke(args) => &args.common,
            Self::Import(args) => &args.common,
            Self::Prune(args) => &args.common,
            Self::Peppers(args) => &args.common,
            Self::Purge(args) => &args.common,
        })
    }

    /// Which key service is meant, where one is.
    pub fn remote(&self) -> Option<&RemoteArgs> {
        let remote = match self {
            Self::Create(args) => &args.remote,
            Self::List(args) => &args.remote,
            Self::Show(args) => &args.remote,
            Self::Rotate(args) => &args.remote,
            Self::Revoke(args) => &args.remote,
            Self::Import(args) => &args.remote,
            Self::Prune(_) | Self::Peppers(_) | Self::Purge(_) | Self::Token(_) => return None,
        };
        remote.url.is_some().then_some(remote)
    }
}

fn limit(text: &str) -> Result<KeyLimit, String> {
    let expected = || "expected requests per duration, such as 100/1m".to_owned();
    let (requests, per) = text.split_once('/').ok_or_else(expected)?;
    let requests = requests.parse().map_err(|_| expected())?;
    KeyLimit::new(requests, parse_duration(per)?).map_err(|error| error.to_string())
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as plan=gold")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn grace(text: &str) -> Result<Duration, String> {
    let grace = parse_duration(text)?;
    if grace > crate::keys::MAX_GRACE { Err("the longest grace time is 365d".to_owned()) } else { Ok(grace) }
}
