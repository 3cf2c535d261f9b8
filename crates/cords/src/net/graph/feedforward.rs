//! What of a network is feed-forward: what is left without the projections that close loops, and its CNN twin.

use super::{ConvKind, Graph, GraphError, Inlet, Origin, Projection, Source};
use crate::net::{CellKind, NetError};

impl Graph {
    /// Whether a feed-forward network is left without the projections that close loops: recurrent ones, and those to an
    /// area from later areas alone which it drives.
    ///
    /// # Errors
    /// [`GraphError::NoFeedforwardRest`] with what speaks against it.
    pub fn check_feedforward_rest(&self) -> Result<(), NetError> {
        self.loop_convs().map(drop)
    }

    /// The convolutions of the projections that close loops, by number.
    ///
    /// # Errors
    /// [`GraphError::NoFeedforwardRest`] where a loop is left, as a projection sums what closes it with what does not,
    /// or where an area is left without any source.
    pub(crate) fn loop_convs(&self) -> Result<Vec<usize>, NetError> {
        // The area that a source comes from, if it is the projection's own or a later one which that drives.
        let closes = |components: &[Vec<usize>], to: usize, source: &Source| match source.from {
            Origin::Area(from) if from >= to => {
                let mut components = components.iter();
                let is_loop = components.any(|areas| areas.contains(&from) && areas.contains(&to));
                is_loop.then_some(from)
            }
            Origin::Area(_) | Origin::Image => None,
        };
        let is_cut = |projection: &Projection| match projection.kind() {
            ConvKind::Recurrent => true,
            ConvKind::Feedback => {
                let mut sources = projection.sources.iter();
                sources.any(|source| closes(&self.components, projection.to, source).is_some())
            }
            _ => false,
        };
        let mut rest = self.description.clone();
        rest.projections.retain(|projection| !is_cut(projection));
        let rest = Self::derived(rest);
        let name = |area: usize| &self.area(area).name;
        let fails = |reason: String| Err(NetError::Graph(GraphError::NoFeedforwardRest { reason }));
        for Projection { kernel, to, sources } in &rest.description.projections {
            let from = sources.iter().find_map(|source| closes(&rest.components, *to, source));
            if let Some(from) = from {
                return fails(format!(
                    "projection `{}` to area {} sums area {}, which closes a loop, with sources that do not",
                    kernel.name,
                    name(*to),
                    name(from)
                ));
            }
        }
        let is_lone = |area: &usize| rest.inlets[*area].is_empty() && !self.inlets[*area].is_empty();
        if let Some(area) = (0..self.areas()).find(is_lone) {
            return fails(format!("area {} would have no source", name(area)));
        }
        let cut = self
            .description
            .projections
            .iter()
            .filter(|projection| is_cut(projection));
        let number = |projection: &Projection| self.convs.iter().position(|conv| conv.module == projection.kernel.name);
        Ok(cut.filter_map(number).collect())
    }

    /// Whether there is a feed-forward twin of it, with which training in the published phases begins.
    ///
    /// # Errors
    /// [`GraphError::NoTwin`] with what speaks against it.
    pub fn check_twin(&self) -> Result<(), NetError> {
        self.twin().map(drop)
    }

    /// What each area of a feed-forward twin reads, in the order in which areas are computed: number of the area, its
    /// one inlet, and its recurrent convolution, which is a feed-forward one there.
    ///
    /// # Errors
    /// [`GraphError::NoTwin`] where areas drive each other, or one has other units than the published ones or not
    /// one projection and a recurrent one.
    pub(crate) fn twin(&self) -> Result<Vec<TwinArea<'_>>, NetError> {
        let name = |area: usize| self.area(area).name.clone();
        let fails = |reason: String| Err(NetError::Graph(GraphError::NoTwin { reason }));
        let mut areas = Vec::new();
        for component in &self.components {
            let [area] = component[..] else {
                let names: Vec<String> = component.iter().map(|area| name(*area)).collect();
                return fails(format!("areas {} drive each other", names.join(", ")));
            };
            if !self.area(area).parameters(area).is_empty() || self.area(area).cell != CellKind::Leaky {
                return fails(format!(
                    "area {} has units with adaptation or a trained time constant",
                    name(area)
                ));
            }
            let inlets = self.inlets(area);
            if inlets
                .iter()
                .any(|inlet| inlet.areas.iter().any(|(from, _)| *from == area))
            {
                return fails(format!(
                    "area {} is among the sources of one of its projections",
                    name(area)
                ));
            }
            let ([inlet], Some(recurrent)) = (inlets, self.recurrent(area)) else {
                return fails(format!(
                    "area {} has {} projections from elsewhere and {} recurrent ones, not one of each",
                    name(area),
                    inlets.len(),
                    usize::from(self.recurrent(area).is_some())
                ));
            };
            areas.push(TwinArea { area, inlet, recurrent });
        }
        Ok(areas)
    }
}

/// An area of a feed-forward twin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwinArea<'a> {
    pub(crate) area: usize,
    pub(crate) inlet: &'a Inlet,
    pub(crate) recurrent: usize,
}
