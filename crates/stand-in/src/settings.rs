//! What the environment asks of the stand-in.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::codes::Code;
use crate::counts;

/// Where a capture breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenCapture {
    /// It cannot begin.
    Begin,
    /// A convolution invalidates it.
    Convolution,
    /// What was captured cannot be made ready to run.
    Instantiate,
    /// What was made ready does not run.
    Launch,
}

/// How a build of NVRTC is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenCompiler {
    /// Every program fails, as without the builtins.
    Builtins,
    /// Every program has an error.
    Program,
}

/// All settings; `README.md` says what each does.
pub(crate) struct Settings {
    /// Numbers of GPUs of this machine that the process sees.
    pub(crate) gpus: Vec<usize>,
    pub(crate) memory: u64,
    pub(crate) pool: bool,
    pub(crate) capability: (u32, u32),
    pub(crate) init: Option<Code>,
    pub(crate) context: Option<Code>,
    pub(crate) first_proposal: Option<i32>,
    pub(crate) all_proposals: Option<i32>,
    pub(crate) only_accumulating: bool,
    pub(crate) capture: Option<BrokenCapture>,
    pub(crate) compiler: Option<BrokenCompiler>,
    pub(crate) counts: Option<PathBuf>,
    pub(crate) bytes: bool,
    pub(crate) computes_convolutions: bool,
}

/// The settings, read once.
pub(crate) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(read)
}

/// Bytes of a GPU's memory where nothing else is asked for. Host memory holds it all.
const MEMORY: u64 = 4 << 30;

fn read() -> Settings {
    Settings {
        gpus: visible(number("GPUS").unwrap_or(1)),
        memory: number("MEMORY").unwrap_or(MEMORY),
        pool: !flag("NO_POOL"),
        capability: value("CAPABILITY", |text| {
            let (major, minor) = text.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        .unwrap_or((9, 0)),
        init: number("INIT"),
        context: number("CONTEXT"),
        first_proposal: number("FIRST_PROPOSAL"),
        all_proposals: number("ALL_PROPOSALS"),
        only_accumulating: flag("ONLY_ACCUMULATING"),
        capture: value("CAPTURE", |text| {
            Some(match text {
                "begin" => BrokenCapture::Begin,
                "convolution" => BrokenCapture::Convolution,
                "instantiate" => BrokenCapture::Instantiate,
                "launch" => BrokenCapture::Launch,
                _ => return None,
            })
        }),
        compiler: value("COMPILER", |text| {
            Some(match text {
                "builtins" => BrokenCompiler::Builtins,
                "program" => BrokenCompiler::Program,
                _ => return None,
            })
        }),
        counts: std::env::var_os("DYNVIS_STAND_IN_COUNTS").map(PathBuf::from),
        bytes: flag("BYTES"),
        computes_convolutions: !flag("NO_CONVOLUTIONS"),
    }
}

/// GPUs that `CUDA_VISIBLE_DEVICES` leaves: those before the first that there is not.
fn visible(gpus: usize) -> Vec<usize> {
    let Ok(list) = std::env::var("CUDA_VISIBLE_DEVICES") else {
        return (0..gpus).collect();
    };
    let known = |name: &str| name.trim().parse().ok().filter(|ordinal| *ordinal < gpus);
    list.split(',').map_while(known).collect()
}

/// A setting, by its name without what all have in common.
fn value<T>(name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let name = format!("DYNVIS_STAND_IN_{name}");
    let text = std::env::var(&name).ok()?;
    let parsed = parse(&text);
    if parsed.is_none() {
        counts::violation(format!("{name}={text} is no value that it can have"));
    }
    parsed
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    value(name, |text| text.parse().ok())
}

fn flag(name: &str) -> bool {
    value(name, |text| match text {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    })
    .unwrap_or_default()
}
