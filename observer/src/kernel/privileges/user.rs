//! Who to become: a user by name or number.
//!
//! /etc/passwd is read here and not through getpwnam(3), which loads shared libraries at run time: a static binary in an
//! empty image cannot.

use nix::unistd::geteuid;
use std::fs;
use std::io;
use std::path::Path;

/// The user database.
pub const PASSWD: &str = "/etc/passwd";
/// The user of whom nothing is expected; the kernel's own overflow uid.
pub const NOBODY: User = User { uid: 65534, gid: 65534 };
/// Tells setresuid(2) to change nothing, so it can be nobody's number.
const UNCHANGED: u32 = u32::MAX;

/// A user to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Real, effective, saved and file system user id.
    pub uid: u32,
    /// The same of the group; there will be no supplementary ones.
    pub gid: u32,
}

/// Why there is no such user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name is not in the database.
    #[error("--user {name}: no such user in {PASSWD}; give a name from there, a number, or \"keep\"")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The number is not one of a user.
    #[error("--user {number}: not the number of a user; give one below 4294967295")]
    Number {
        /// The number.
        number: String,
    },
    /// Only root can become somebody else.
    #[error("--user {name}: only root can become another user; start the agent as root, or with --user keep")]
    NotRoot {
        /// The name or number asked for.
        name: String,
    },
}

impl User {
    /// Who `--user` means: `None` keeps the user as it is. Without the flag root becomes [`NOBODY`] (by name, where the
    /// database has a `nobody`), and anyone else stays. A number needs no entry; its group is the entry's, or the number
    /// itself.
    ///
    /// # Errors
    /// [`UserError`], before any privilege is used.
    pub fn chosen(flag: Option<&str>) -> Result<Option<Self>, UserError> {
        let database = match fs::read_to_string(PASSWD) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                fs::read(Path::new(PASSWD)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            }
            other => other,
        };
        choose(flag, &database.unwrap_or_default(), geteuid().as_raw())
    }
}

pub(super) fn choose(flag: Option<&str>, database: &str, own: u32) -> Result<Option<User>, UserError> {
    let name = match (flag, own) {
        (Some("keep"), _) => return Ok(None),
        (Some(name), _) => name,
        (None, 0) => "nobody",
        (None, _) => return Ok(None),
    };
    let user = find(name, database)?;
    match own {
        0 => Ok(Some(user)),
        _ if user.uid == own => Ok(None),
        _ => Err(UserError::NotRoot { name: name.into() }),
    }
}

fn find(name: &str, database: &str) -> Result<User, UserError> {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        let uid = name.parse().ok().filter(|uid| *uid != UNCHANGED);
        let uid = uid.ok_or_else(|| UserError::Number { number: name.into() })?;
        let entry = entries(database).find(|(_, user)| user.uid == uid);
        return Ok(entry.map_or(User { uid, gid: uid }, |(_, user)| user));
    }
    match entries(database).find(|(entry, _)| *entry == name) {
        Some((_, user)) => Ok(user),
        None if name == "nobody" => Ok(NOBODY),
        None => Err(UserError::Unknown { name: name.into() }),
    }
}

/// `name:password:uid:gid:comment:home:shell`; lines that are not of that form are passed over, as the C library does.
fn entries(database: &str) -> impl Iterator<Item = (&str, User)> {
    database.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        let number = |text: &str| text.parse().ok().filter(|number| *number != UNCHANGED);
        Some((name, User { uid: number(uid)?, gid: number(gid)? }))
    })
}
