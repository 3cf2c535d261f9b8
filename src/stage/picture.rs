//! Pictures as files: the same bytes for the same picture.

use std::path::Path;

use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::StageError;

/// Writes `name.svg` and `name.png` into a folder; `make` gives the picture, which is drawn twice.
pub(super) fn write_picture(
    folder: &Path,
    name: &str,
    make: impl Fn() -> (Vec<Plot>, Layout),
) -> Result<(), StageError> {
    let (plots, layout) = make();
    let svg = renumber_clips(&kuva::render_to_svg(plots, layout));
    fs_err::write(folder.join(format!("{name}.svg")), svg)?;
    let (plots, layout) = make();
    let png = kuva::render_to_png(plots, layout, 2.0)
        .map_err(|error| StageError::new(format!("the picture `{name}` cannot be drawn: {error}")))?;
    Ok(fs_err::write(folder.join(format!("{name}.png")), png)?)
}

/// Ids of clip paths count over the whole process; within a file they shall depend on the file alone.
fn renumber_clips(svg: &str) -> String {
    const PREFIX: &str = "kuva-clip-";
    let mut parts = svg.split(PREFIX);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (id, rest) = part.split_at(end);
        let number = seen.iter().position(|known| *known == id).unwrap_or_else(|| {
            seen.push(id);
            seen.len() - 1
        });
        out.push_str(&format!("{PREFIX}{number}{rest}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_numbered_within_the_file() {
        let text = "<a id=\"kuva-clip-17\"/><b clip=\"url(#kuva-clip-17)\"/><c id=\"kuva-clip-18\"/>";
        let expected = "<a id=\"kuva-clip-0\"/><b clip=\"url(#kuva-clip-0)\"/><c id=\"kuva-clip-1\"/>";
        assert_eq!(renumber_clips(text), expected);
        assert_eq!(renumber_clips("<svg/>"), "<svg/>");
    }
}
