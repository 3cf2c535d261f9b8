//! Where a remote is, as users write it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::RemoteError;

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, a mounted one for instance.
    Folder(PathBuf),
    /// A bucket of an S3-compatible storage, and what names in it begin with.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Without slashes at its ends; perhaps empty.
        prefix: String,
    },
    /// A folder of a machine that `ssh` reaches.
    Ssh {
        /// `host`, `user@host`, or a name from the user's `~/.ssh/config`.
        host: String,
        /// Where it is not the usual one.
        port: Option<u16>,
        /// Absolute, or relative to the home folder there.
        folder: String,
    },
}

impl Place {
    /// Reads `s3://BUCKET/PREFIX`, `ssh://[USER@]HOST[:PORT]/FOLDER`, `file:///FOLDER` or a folder's path, which is
    /// relative to `base`.
    ///
    /// # Errors
    /// [`RemoteError::Url`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, RemoteError> {
        let wrong = |reason: &str| RemoteError::Url {
            url: without_password(text),
            reason: reason.to_owned(),
        };
        if text.chars().any(char::is_control) || text.is_empty() {
            return Err(wrong(
                "it is to be `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder",
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let first = text.split('/').next().unwrap_or_default();
            return match first {
                "s3:" | "ssh:" | "file:" => Err(wrong("after `:` stand two slashes")),
                // As scp has it.
                machine if machine.contains(':') => Err(wrong(
                    "a folder of another machine is `ssh://USER@HOST/FOLDER`; one of this machine with a colon in its \
                     name begins with `./` or `/`",
                )),
                home if home.starts_with('~') => Err(wrong("`~` is not replaced here; write the whole path")),
                _ if text.contains("${") => Err(wrong("variables are not replaced here")),
                _ => Ok(Self::Folder(base.join(text))),
            };
        };
        match scheme {
            "file" => match rest.starts_with('/') {
                true => Ok(Self::Folder(PathBuf::from(rest))),
                false => Err(wrong("after `file://` stands an absolute path")),
            },
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.contains('@') {
                    return Err(wrong(
                        "keys do not stand in addresses; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                    ));
                }
                let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                if bucket.is_empty() || !bucket.bytes().all(is_name) {
                    return Err(wrong("after `s3://` stands the name of a bucket"));
                }
                let prefix = prefix.trim_matches('/').to_owned();
                if prefix.split('/').any(|part| part == "." || part == "..") || prefix.contains("//") {
                    return Err(wrong("its prefix has parts that are no names"));
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix,
                })
            }
            "ssh" => {
                let (machine, folder) = rest
                    .split_once('/')
                    .ok_or_else(|| wrong("after the host stands a folder, `/~/FOLDER` for one in the home folder"))?;
                let (user, address) = machine.rsplit_once('@').unwrap_or(("", machine));
                if user.contains(':') {
                    return Err(wrong("passwords do not stand in addresses; use keys of ssh"));
                }
                let (host, port) = match address.rsplit_once(':') {
                    Some((host, port)) if !address.ends_with(']') => {
                        let port = port.parse().map_err(|_| wrong("its port is no number"))?;
                        (host, Some(port))
                    }
                    _ => (address, None),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
                // What begins with a dash would be an option.
                let is_fine = |name: &str| !name.starts_with('-') && name.bytes().all(is_name);
                if host.is_empty() || !is_fine(host) || !is_fine(user) {
                    return Err(wrong("after `ssh://` stands the name of a machine"));
                }
                let folder = match folder.strip_prefix("~/") {
                    Some(home) => home.to_owned(),
                    None => format!("/{folder}"),
                };
                if folder.starts_with("/~") {
                    return Err(wrong("of home folders only one's own is known, `/~/FOLDER`"));
                }
                if folder.trim_matches('/').is_empty() {
                    return Err(wrong("after the host stands a folder"));
                }
                Ok(Self::Ssh {
                    host: match user {
                        "" => host.to_owned(),
                        user => format!("{user}@{host}"),
                    },
                    port,
                    folder: folder.trim_end_matches('/').to_owned(),
                })
            }
            _ => Err(wrong(
                "it is to be `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder",
            )),
        }
    }
}

/// An address as it may be printed.
fn without_password(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    match (clean.split_once("://"), clean.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://…{}", &clean[at..]),
        (None, Some(at)) => format!("…{}", &clean[at..]),
        _ => clean,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Ssh { host, port, folder } => {
                let (user, name) = host.rsplit_once('@').unwrap_or(("", host));
                f.write_str("ssh://")?;
                if !user.is_empty() {
                    write!(f, "{user}@")?;
                }
                match name.contains(':') {
                    true => write!(f, "[{name}]")?,
                    false => f.write_str(name)?,
                }
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                match folder.starts_with('/') {
                    true => write!(f, "{folder}"),
                    false => write!(f, "/~/{folder}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place, String> {
        Place::parse(text, Path::new("/base")).map_err(|error| error.to_string())
    }

    #[test]
    fn places_are_read_and_written_alike() {
        for text in [
            "s3://lab",
            "s3://lab/a/b",
            "ssh://host/srv/x",
            "ssh://me@host:2200/srv/x",
            "ssh://me@[::1]:22/~/x",
            "/srv/x",
        ] {
            assert_eq!(parse(text).map(|place| place.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(parse("shared"), Ok(Place::Folder("/base/shared".into())));
        assert_eq!(parse("file:///srv"), Ok(Place::Folder("/srv".into())));
        assert_eq!(parse("s3://lab/a/"), parse("s3://lab/a"));
    }

    #[test]
    fn what_is_no_place_is_refused_without_its_password() {
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://lab/../x",
            "ssh://host",
            "ssh://host/",
            "ssh://-oProxyCommand=x/y",
            "ssh://host:port/x",
            "http://host/x",
            "s3:/lab/x",
            "host:/x",
            "~/x",
            "${vars.x}",
            "ssh://host/~other/x",
            "file://x",
            "a\nb",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in [
            "ssh://me:geheim@host/x",
            "s3://key:geheim@lab/x",
            "me:geheim@host:/x",
            "me@host:x/geheim@y",
        ] {
            let error = parse(text).expect_err("refused");
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
