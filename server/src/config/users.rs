//! `user` lines of a configuration, as far as one user goes.
//!
//! Redis writes such lines into every file CONFIG REWRITE touches, so the one that says no more than `requirepass` does
//! is accepted, and so is a user that is switched off. Every other line is refused: a server that read over it would be open
//! to whom it keeps out.

use sha2::{Digest, Sha256};

/// Why a line is refused, with what to do.
fn refused(what: &str) -> String {
    format!(
        "Sluice does not support users yet and does not run without them: {what}. There is one user, 'default', who may \
         do everything; remove the line and set 'requirepass'"
    )
}

/// What the rules of a user add up to.
#[derive(Default)]
struct User {
    on: bool,
    nopass: bool,
    passwords: Vec<Vec<u8>>,
    hashes: Vec<Vec<u8>>,
    all_keys: bool,
    all_channels: bool,
    all_commands: bool,
}

impl User {
    fn of(rules: &[Vec<u8>]) -> Result<User, String> {
        let mut user = User::default();
        for rule in rules {
            match rule.to_ascii_lowercase().as_slice() {
                b"on" => user.on = true,
                b"off" => user.on = false,
                b"nopass" => {
                    user.passwords.clear();
                    user.hashes.clear();
                    user.nopass = true;
                }
                b"resetpass" => {
                    user.passwords.clear();
                    user.hashes.clear();
                    user.nopass = false;
                }
                b"~*" | b"allkeys" => user.all_keys = true,
                b"resetkeys" => user.all_keys = false,
                b"&*" | b"allchannels" => user.all_channels = true,
                b"resetchannels" => user.all_channels = false,
                b"+@all" | b"allcommands" => user.all_commands = true,
                b"-@all" | b"nocommands" => user.all_commands = false,
                b"sanitize-payload" | b"skip-sanitize-payload" => {}
                b"reset" => user = User::default(),
                _ => match rule.split_first() {
                    Some((b'>', password)) => user.passwords.push(password.to_vec()),
                    Some((b'#', hash)) => user.hashes.push(hash.to_ascii_lowercase()),
                    _ => return Err(refused(&format!("the rule '{}' would be lost", shown(rule)))),
                },
            }
        }
        Ok(user)
    }
}

/// A rule as an error may show it.
fn shown(rule: &[u8]) -> String {
    String::from_utf8_lossy(rule).into_owned()
}

fn hash(password: &[u8]) -> Vec<u8> {
    Sha256::digest(password).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Takes the words after `user`. A password of the default user that `requirepass` does not have yet goes there.
pub(super) fn accept(words: &[Vec<u8>], requirepass: &mut Vec<u8>) -> Result<(), String> {
    let Some((name, rules)) = words.split_first() else {
        return Err("wrong number of arguments".into());
    };
    let user = User::of(rules)?;
    if name != b"default" {
        return match user.on {
            false => Ok(()),
            true => Err(refused(&format!("'{}' could not sign on", shown(name)))),
        };
    }
    if !(user.on && user.all_keys && user.all_channels && user.all_commands) {
        return Err(refused(
            "what 'default' may not do would be open (Sluice's default is 'on ~* &* +@all')",
        ));
    }
    match (user.nopass, user.passwords.as_slice(), user.hashes.as_slice()) {
        (true, [], []) if requirepass.is_empty() => Ok(()),
        (true, [], []) => {
            Err("'nopass' here and 'requirepass' contradict each other: remove one of them".into())
        }
        (false, [password], []) if requirepass.is_empty() || requirepass == password => {
            requirepass.clone_from(password);
            Ok(())
        }
        (false, [], [known]) if !requirepass.is_empty() && *known == hash(requirepass) => Ok(()),
        (false, [], [_]) => {
            Err(refused("a hash is no password that 'requirepass' has: give the password itself there"))
        }
        _ => Err(refused("'default' has one password here, that of 'requirepass'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(line: &str, requirepass: &str) -> Result<String, String> {
        let words: Vec<_> = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        let mut secret = requirepass.as_bytes().to_vec();
        accept(&words, &mut secret).map(|()| String::from_utf8(secret).expect("text"))
    }

    #[test]
    fn what_redis_writes_for_its_one_user_is_accepted() {
        let hashed =
            "default on #fbc1a9f858ea9e177916964bd88c3d37b91a1e84412765e29950777f265c4b75 ~* &* +@all";
        assert_eq!(accepted("default on nopass ~* &* +@all", ""), Ok(String::new()));
        assert_eq!(accepted("default on nopass sanitize-payload ~* &* +@all", ""), Ok(String::new()));
        assert_eq!(accepted(hashed, "foo bar"), Ok("foo bar".into()));
        assert_eq!(accepted("default on >secret ~* &* +@all", ""), Ok("secret".into()));
        assert_eq!(accepted("alice off >x ~* +@all", ""), Ok(String::new()));
        assert!(accepted(hashed, "").is_err() && accepted(hashed, "other").is_err());
    }

    #[test]
    fn every_limit_of_a_user_is_refused() {
        for line in [
            "default on nopass ~app:* &* +@all",
            "default on nopass ~* &* +@all -flushall",
            "default on nopass ~* &* +get",
            "default off nopass ~* &* +@all",
            "default on nopass ~* +@all",
            "default on ~* &* +@all",
            "default on >a >b ~* &* +@all",
            "default on nopass ~* &* +@all resetkeys",
            "default on nopass ~* &* +@all (+set ~k)",
            "default on nopass ~* &* +@all reset",
            "default",
            "alice on >x ~* +@all",
            "alice off +nosuchrule",
        ] {
            assert!(accepted(line, "").is_err(), "{line}");
        }
        assert!(
            accepted("default on nopass ~* &* +@all", "secret").expect_err("both").contains("contradict")
        );
    }
}
