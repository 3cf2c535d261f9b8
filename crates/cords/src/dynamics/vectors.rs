//! Eigenvectors as a file.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::spectrum::Spectrum;
use crate::net::CordsNet;

/// Writes the eigenvectors of all areas as safetensors: for area A, `area.A.re` and `area.A.im`
/// `[vectors, channels, side, side]` in float32, and `area.A.rank` `[vectors]`, the ranks of their modes by real part.
/// Those of areas that drive each other stand at the first of them as `[vectors, units]`, and so do those of an area
/// that adapts: activities area by area, then hidden variables. An area without vectors is left out.
///
/// # Errors
/// Where the file cannot be written.
pub fn save_vectors(path: &Path, net: &CordsNet<f64>, areas: &[Option<&Spectrum>]) -> std::io::Result<()> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (area, spectrum) in areas.iter().enumerate() {
        let vectors = spectrum.map_or(&[][..], |spectrum| &spectrum.vectors);
        if vectors.is_empty() {
            continue;
        }
        let [channels, rows, columns] = net.area_shape(area);
        // Those of areas that drive each other have no one shape.
        let units = vectors[0].re.len();
        let shape = if units == channels * rows * columns {
            vec![vectors.len(), channels, rows, columns]
        } else {
            vec![vectors.len(), units]
        };
        let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let re = vectors.iter().flat_map(|vector| bytes(&vector.re)).collect();
        let im = vectors.iter().flat_map(|vector| bytes(&vector.im)).collect();
        let ranks = vectors.iter().flat_map(|vector| (vector.rank as i64).to_le_bytes());
        tensors.extend([
            (format!("area.{area}.re"), Dtype::F32, shape.clone(), re),
            (format!("area.{area}.im"), Dtype::F32, shape, im),
            (
                format!("area.{area}.rank"),
                Dtype::I64,
                vec![vectors.len()],
                ranks.collect(),
            ),
        ]);
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(std::io::Error::other)?;
        Ok((name.as_str(), view))
    });
    let views: Vec<(&str, TensorView<'_>)> = views.collect::<std::io::Result<_>>()?;
    let file = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    fs_err::write(path, file)
}
