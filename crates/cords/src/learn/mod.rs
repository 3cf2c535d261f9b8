//! Training: the published objective, backpropagation through time, optimisers and training loops.
