//! Pipelines of cached stages: from YAML to a plan, to processes, to stored results and tables.
//!
//! Knows no stage kind but a program of the user's own and the collecting of tables ([`kinds`]); a [`kind::Registry`]
//! says which others there are, and what they compute is their own business. Prints nothing: errors are typed, and what
//! happens in a run is told to a [`run::Reporter`].
//!
//! A run starts its own program again, as `PROGRAM worker SPEC` for every stage and as `PROGRAM guard …` above a user's
//! program: a program that calls [`run::run`] answers to both, with [`run::serve`] and [`run::guard`].
//!
//! Modules in their order; each uses those that stand before it, and no other:
//!
//! - [`fail`]: steps at which tests kill a run or let its disk be full;
//! - [`names`]: names of stages, members and outputs, and the way from a name to what it stands for;
//! - [`table`]: result tables, their files, their differences, and how they are shown;
//! - [`key`]: what identifies a result, and fingerprints of files;
//! - [`kind`]: the contract between a stage kind and everything below;
//! - [`store`]: results on disk, the journal, locks, records of runs;
//! - [`pipeline`]: from YAML to typed stages;
//! - [`plan`]: what would run, and why;
//! - [`run`]: workers, leases, publishing;
//! - [`kinds`]: the stage kinds that know of files and tables only.

// What derives write is called from outside and from here.
extern crate self as dynvis_runner;

pub mod fail;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod names;
pub mod pipeline;
pub mod plan;
pub mod run;
pub mod store;
pub mod table;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// As the documentation of the crate has it.
    const ORDER: [&str; 10] = [
        "fail", "names", "table", "key", "kind", "store", "pipeline", "plan", "run", "kinds",
    ];

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs_err::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => sources(&path, found),
                path => found.push(path),
            }
        }
    }

    #[test]
    fn each_module_uses_those_before_it_only() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        let place = |name: &str| ORDER.iter().position(|module| *module == name);
        let mut seen = 0;
        for file in &files {
            let within = file.strip_prefix(&root).expect("below the sources");
            let mut parts = within.iter().map(|part| part.to_string_lossy());
            let module = parts.next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            // Tests may use whatever helps; documentation may point anywhere.
            if module == "lib"
                || within.extension().is_none_or(|ending| ending != "rs")
                || parts.any(|part| part.starts_with("tests"))
            {
                continue;
            }
            let own = place(&module).expect("every module has its place");
            let text = fs_err::read_to_string(file).expect("readable");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for used in line.split("crate::").skip(1) {
                    let name = used.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
                    if let Some(other) = place(name) {
                        assert!(other <= own, "`{module}` uses `{name}` in {}: {line}", within.display());
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 50, "{seen} uses were looked at");
    }
}
