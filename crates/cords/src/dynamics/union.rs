//! The whole network from its components: single areas, or areas that drive each other. Between them there is no
//! feedback, so the network's linearisation is block triangular, and its eigenvalues and Lyapunov exponents are those
//! of its components taken together.

use super::spectrum::{Mode, Spectrum, Stability, stability_of};

/// Ranks, in the union of all lists, of the members of each. Lists are in descending order; one with `false` holds only
/// the first of its area's values. A member behind the last of such a list has no rank, as values that are not listed
/// may come before it. Within a list the order is kept, also where it descends but for rounding.
pub fn ranks_in_union(lists: &[(Vec<f64>, bool)]) -> Vec<Vec<Option<usize>>> {
    let descending = |(values, complete): &(Vec<f64>, bool)| {
        let mut least = f64::INFINITY;
        let values = values.iter().map(|value| {
            least = least.min(*value);
            least
        });
        (values.collect(), *complete)
    };
    let lists: Vec<(Vec<f64>, bool)> = lists.iter().map(descending).collect();
    let cut_off = lists.iter().filter(|(_, complete)| !complete);
    let known_to = cut_off
        .map(|(values, _)| values.last().copied().unwrap_or(f64::INFINITY))
        .fold(f64::NEG_INFINITY, f64::max);
    let mut order: Vec<(usize, usize)> = lists
        .iter()
        .enumerate()
        .flat_map(|(list, (values, _))| (0..values.len()).map(move |i| (list, i)))
        .filter(|(list, i)| lists[*list].0[*i] >= known_to)
        .collect();
    order.sort_by(|a, b| lists[b.0].0[b.1].total_cmp(&lists[a.0].0[a.1]));
    let mut ranks: Vec<Vec<Option<usize>>> = lists.iter().map(|(values, _)| vec![None; values.len()]).collect();
    for (rank, (list, i)) in order.into_iter().enumerate() {
        ranks[list][i] = Some(rank);
    }
    ranks
}

/// The whole network at a steady state, from the leading modes of all its areas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkSpectrum {
    /// What the steady state is.
    pub stability: Option<Stability>,
    /// What it is under the simulated Euler steps.
    pub euler_stability: Option<Stability>,
    /// Modes that grow, among those computed.
    pub growing: usize,
    /// Modes that are marginal, among those computed.
    pub marginal: usize,
    /// Whether all modes decay, in continuous time.
    pub stable: bool,
    /// Largest |1 + dt lambda| of all modes; below 1 the steady state is stable under the simulated Euler steps too.
    pub euler_radius: f64,
    /// Area of the slowest mode, and the mode.
    pub slowest: Option<(usize, Mode)>,
}

impl NetworkSpectrum {
    /// From the spectra of all components with their first areas, `dt_ms` being the Euler step. None where one is missing
    /// or did not converge.
    pub fn of<'a>(components: impl IntoIterator<Item = (usize, Option<&'a Spectrum>)>, dt_ms: f64) -> Option<Self> {
        let converged = |(area, spectrum): (usize, Option<&'a Spectrum>)| {
            let spectrum = spectrum.filter(|spectrum| spectrum.converged)?;
            Some((area, spectrum))
        };
        let components: Vec<(usize, &Spectrum)> = components.into_iter().map(converged).collect::<Option<_>>()?;
        let mut modes: Vec<(usize, Mode)> = components
            .iter()
            .flat_map(|(area, spectrum)| spectrum.modes.iter().map(move |mode| (*area, *mode)))
            .collect();
        let areas: Vec<&Spectrum> = components.iter().map(|(_, spectrum)| *spectrum).collect();
        // Stable: of equal modes the lower area comes first.
        modes.sort_by(|a, b| b.1.real_per_ms.total_cmp(&a.1.real_per_ms));
        let units = areas.iter().map(|spectrum| spectrum.units).sum();
        let kind = |of: &dyn Fn(&Spectrum) -> Vec<(f64, bool)>| {
            // By time, as areas may have time constants of their own.
            let per_ms = |spectrum: &&Spectrum| {
                let tau_ms = spectrum.tau_ms;
                of(spectrum).into_iter().map(move |rate| (rate.0 / tau_ms, rate))
            };
            let mut rates: Vec<(f64, (f64, bool))> = areas.iter().flat_map(per_ms).collect();
            rates.sort_by(|a, b| b.0.total_cmp(&a.0));
            let rates: Vec<(f64, bool)> = rates.into_iter().map(|(_, rate)| rate).collect();
            stability_of(&rates, units)
        };
        let counts = areas.iter().map(|spectrum| spectrum.growing_and_marginal());
        let (growing, marginal) = counts.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        Some(Self {
            stability: kind(&Spectrum::rates),
            euler_stability: kind(&|spectrum| spectrum.euler_rates(dt_ms)),
            growing,
            marginal,
            stable: modes.iter().all(|(_, mode)| mode.real_per_ms < 0.0),
            euler_radius: areas.iter().map(|spectrum| spectrum.euler_radius).fold(0.0, f64::max),
            slowest: modes.first().copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_may_come_before() {
        // The first list goes on below 2, so nothing below 2 has a rank; the second one is whole.
        let ranks = ranks_in_union(&[(vec![5.0, 2.0], false), (vec![6.0, 4.0, 1.0], true)]);
        assert_eq!(ranks, [vec![Some(1), Some(3)], vec![Some(0), Some(2), None]]);
        let ranks = ranks_in_union(&[(vec![5.0, 2.0], true), (vec![6.0, 2.0, 1.0], true)]);
        assert_eq!(
            ranks,
            [vec![Some(1), Some(2)], vec![Some(0), Some(3), Some(4)]],
            "of equal ones the lower area's first"
        );
        let pair = -1.0 + f64::EPSILON;
        let ranks = ranks_in_union(&[(vec![-1.0, pair], false), (vec![-0.5], true)]);
        assert_eq!(ranks, [vec![Some(1), Some(2)], vec![Some(0)]], "a complex pair");
        let ranks = ranks_in_union(&[(vec![5.0], true), (vec![], false)]);
        assert_eq!(ranks, [vec![None], vec![]], "nothing is known of the second");
    }
}
