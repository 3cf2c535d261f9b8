//! Paths within the script of `sh -c`, quoted as the place needs it where they stand.

use std::path::Path;

/// Whether `sh -c` or the like stands before a script: `[sh, -c]`, `[/bin/bash, -ec]`.
pub(super) fn is_shell(before: &[String]) -> bool {
    let [program, .., option] = before else {
        return false;
    };
    let name = Path::new(program).file_name().unwrap_or_default();
    let is_shell = ["sh", "bash", "dash", "zsh", "ksh", "ash"]
        .iter()
        .any(|shell| name == *shell);
    is_shell && option.len() > 1 && option.starts_with('-') && !option.starts_with("--")
}

/// Inside of what a place in a script lies.
#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

/// The quotes that are open at a script's end.
fn open(script: &str) -> Quote {
    let mut quote = Quote::None;
    let mut characters = script.chars();
    while let Some(c) = characters.next() {
        quote = match (quote, c) {
            (Quote::None | Quote::Double, '\\') => {
                characters.next();
                quote
            }
            (Quote::None, '\'') => Quote::Single,
            (Quote::Single, '\'') => Quote::None,
            (Quote::None, '"') => Quote::Double,
            (Quote::Double, '"') => Quote::None,
            _ => quote,
        };
    }
    quote
}

/// A script with paths at its end, each one word of the shell, also within quotes (as `"$@"` has it). A path without
/// special characters stands as it is.
pub(super) fn with_values(mut script: String, values: &[String]) -> String {
    let quote = open(&script);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%=:,".contains(c);
    let quoted = |value: &String| match quote {
        Quote::None if !value.is_empty() && value.chars().all(plain) => value.clone(),
        Quote::None => format!("'{}'", value.replace('\'', "'\\''")),
        Quote::Single => value.replace('\'', "'\\''"),
        Quote::Double => {
            let special = |c: char| matches!(c, '"' | '$' | '`' | '\\');
            value.chars().fold(String::new(), |mut text, c| {
                if special(c) {
                    text.push('\\');
                }
                text.push(c);
                text
            })
        }
    };
    let between = match quote {
        Quote::None => " ",
        Quote::Single => "' '",
        Quote::Double => "\" \"",
    };
    script += &values.iter().map(quoted).collect::<Vec<_>>().join(between);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_wherever_it_stands_in_a_script() {
        let path = "/a b/$x`y`'z'\"\\w";
        for (before, after) in [
            ("printf %s ", ""),
            ("printf %s \"", "\""),
            ("printf %s '", "'"),
            ("printf %s \\\"", ""),
        ] {
            let script = with_values(before.to_owned(), &[path.to_owned()]) + after;
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .expect("a shell");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(
                said.trim_start_matches(if before.ends_with("\\\"") { "\"" } else { "" }),
                path,
                "{script}"
            );
        }
        assert_eq!(with_values("ls ".into(), &["/plain-1.txt".into()]), "ls /plain-1.txt");
        let several = ["/a b/1".to_owned(), "/$c/2".to_owned()];
        for quote in ["", "\"", "'"] {
            let script = with_values(format!("printf '%s\\n' {quote}x"), &several) + "/y" + quote;
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .expect("a shell");
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "x/a b/1\n/$c/2/y\n",
                "{script}"
            );
        }
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(is_shell(&words("sh -c")) && is_shell(&words("/bin/bash -eu -c")));
        assert!(!is_shell(&words("python3 -c")) && !is_shell(&words("sh")));
    }
}
