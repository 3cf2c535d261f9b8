//! A program for a GPU as one for the host: which kernels it has, and how the host's C compiler makes a shared library of
//! it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::settings::settings;

/// A kernel as its program declares it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) name: String,
    /// Types of its parameters, without their names.
    pub(crate) types: Vec<String>,
}

/// Kernels of a program: what follows `KERNEL` at the start of a line, and functions that are `__global__`.
pub(crate) fn signatures(source: &str) -> Vec<Signature> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in source.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let begin = line.trim_start();
        let declared = begin.strip_prefix("KERNEL ").map(|_| "KERNEL ");
        let declared =
            declared.or_else(|| (!begin.starts_with('#') && line.contains("__global__")).then_some("__global__"));
        if let Some(word) = declared {
            found.extend(source[start..].split_once(word).and_then(|(_, rest)| signature(rest)));
        }
    }
    found
}

/// The first name that parameters follow, past `__launch_bounds__`.
fn signature(text: &str) -> Option<Signature> {
    let mut text = text;
    loop {
        let (before, rest) = text.split_once('(')?;
        let name = before
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .rfind(|word| !word.is_empty())?;
        let (parameters, rest) = rest.split_once(')')?;
        if name == "__launch_bounds__" {
            text = rest;
            continue;
        }
        let parameters = parameters.split(',').map(|parameter| {
            let words = parameter.split_whitespace().collect::<Vec<_>>().join(" ");
            words
                .trim_end_matches(|c: char| c.is_alphanumeric() || c == '_')
                .trim()
                .to_owned()
        });
        return Some(Signature {
            name: name.to_owned(),
            types: parameters.filter(|kind| !kind.is_empty()).collect(),
        });
    }
}

/// Threads of a block that the program's kernels are compiled for.
fn launch_bounds(source: &str) -> u32 {
    let bounds = source.split("__launch_bounds__(").skip(1);
    let numbers = bounds.filter_map(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    numbers.min().unwrap_or(1024)
}

/// A program as C of which a shared library is made. Items of a launch are done from the last to the first: none may
/// depend on another.
fn program(name: &str, source: &str, signatures: &[Signature], is_counted: bool) -> String {
    let prefix = if is_counted { "stand_in_counted_" } else { "stand_in_" };
    let copies = if is_counted { include_str!("c/copies.c") } else { "" };
    let each = "#ifdef EACH\n#undef EACH\n#define EACH(i) for (Long i = items; i-- > 0;)\n#endif\n";
    let source = source.replace("extern \"C\"", "");
    // Behind the preamble, where there is one that defines `EACH` for both compilers.
    let at = source.find("\n#endif").map_or(0, |at| at + "\n#endif\n".len());
    let (preamble, rest) = source.split_at(if source.contains("#define EACH(i)") { at } else { 0 });
    let line = preamble.lines().count() + 1;
    let each = if preamble.is_empty() { "" } else { each };
    let mut text = format!(
        "{}{copies}#line 1 \"{name}\"\n{preamble}{each}#line {line} \"{name}\"\n{rest}\n{}",
        include_str!("c/before.c"),
        include_str!("c/after.c")
    );
    let mut table = String::new();
    for Signature { name, types } in signatures {
        let values = types.iter().enumerate().map(|(i, kind)| format!("*({kind} *)p[{i}]"));
        let values: Vec<String> = values.collect();
        text += &format!(
            "static void {prefix}run_{name}(void **p) {{ {name}({}); }}\n",
            values.join(", ")
        );
        let parameters = types.iter().map(|kind| {
            let pointer = u8::from(kind.contains('*'));
            let integer = u8::from(pointer == 0 && !["float", "double"].contains(&&**kind));
            format!("{{sizeof({kind}), _Alignof({kind}), {pointer}, {integer}}}")
        });
        let parameters: Vec<String> = parameters.collect();
        text += &format!(
            "static const struct stand_in_parameter {prefix}parameters_{name}[] = {{{}}};\n",
            if parameters.is_empty() {
                "{0}".to_owned()
            } else {
                parameters.join(", ")
            }
        );
        table += &format!(
            "{{\"{name}\", {prefix}run_{name}, {}, {prefix}parameters_{name}}},\n",
            types.len()
        );
    }
    text + &format!("const struct stand_in_kernel {prefix}kernels[] = {{\n{table}{{0, 0, 0, 0}}}};\n")
}

/// A shared library of a program's kernels, or the compiler's messages as NVRTC gives them.
pub(crate) fn compile(name: &str, source: &str, (major, minor): (u32, u32)) -> Result<Vec<u8>, String> {
    let folder = Folder::new().map_err(|error| format!("no temporary folder: {error}"))?;
    let signatures = signatures(source);
    let facts = format!(
        "const unsigned stand_in_architecture = {}, stand_in_bounds = {};\n",
        10 * major + minor,
        launch_bounds(source)
    );
    let plain = program(name, source, &signatures, false) + &facts;
    let file = |name: &str| folder.0.join(name);
    write(&file("plain.c"), &plain)?;
    let mut objects = vec![compile_object(&file("plain"), &["-O2", "-ftree-vectorize"])];
    if settings().bytes {
        let counted = program(name, source, &signatures, true);
        write(&file("counted.c"), &counted)?;
        write(&file("count.c"), include_str!("c/count.c"))?;
        objects.push(compile_object(&file("counted"), &["-O1", "-fsanitize=thread"]));
        objects.push(compile_object(&file("count"), &["-O2"]));
    }
    let objects = objects.into_iter().collect::<Result<Vec<PathBuf>, String>>()?;
    let library = file("kernels.so");
    let mut link = Command::new("cc");
    link.arg("-shared").arg("-o").arg(&library).args(&objects).arg("-lm");
    run(link)?;
    std::fs::read(&library).map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| error.to_string())
}

fn compile_object(stem: &Path, options: &[&str]) -> Result<PathBuf, String> {
    let object = stem.with_extension("o");
    let mut compiler = Command::new("cc");
    // Without fused multiplications and additions: kernels are compiled so for a GPU too.
    compiler
        .args(["-std=gnu11", "-ffp-contract=off", "-fPIC", "-w", "-c"])
        .args(options);
    compiler.arg("-o").arg(&object).arg(stem.with_extension("c"));
    run(compiler).map(|()| object)
}

fn run(mut command: Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("there is no C compiler, `cc`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<String> = messages.lines().map(as_nvrtc).collect();
    Err(lines.join("\n"))
}

/// `file:line:column: text` as `file(line): text`.
fn as_nvrtc(line: &str) -> String {
    let parts: Vec<&str> = line.splitn(4, ':').collect();
    match parts[..] {
        [file, number, column, text] if number.parse::<u32>().is_ok() && column.parse::<u32>().is_ok() => {
            format!("{file}({number}):{text}")
        }
        _ => line.to_owned(),
    }
}

/// A temporary folder, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dynvis-stand-in-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left there hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_both_forms_are_found() {
        let source = "#define KERNEL extern \"C\" __global__ void __launch_bounds__(256)\n\
                      KERNEL one(const float *x,\n    Long items) {}\n\
                      extern \"C\" __global__ void __launch_bounds__(128) two(unsigned short *y) {}\n\
                      static __device__ void no(int x) {}\nextern \"C\" __global__ void three() {}";
        let found = signatures(source);
        let shown: Vec<String> = found
            .iter()
            .map(|s| format!("{} {}", s.name, s.types.join("|")))
            .collect();
        assert_eq!(shown, ["one const float *|Long", "two unsigned short *", "three "]);
        assert_eq!(launch_bounds(source), 128);
    }

    #[test]
    fn messages_are_those_of_nvrtc() {
        assert_eq!(as_nvrtc("kernels.cu:3:5: error: no"), "kernels.cu(3): error: no");
        assert_eq!(as_nvrtc("cc1: error: no"), "cc1: error: no");
    }
}
