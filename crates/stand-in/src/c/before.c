/* What a program for a GPU may take for granted, for the host's compiler. */
#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ restrict
#define STAND_IN_UNUSED __attribute__((unused))
struct stand_in_place { unsigned x, y, z; };
STAND_IN_UNUSED static const struct stand_in_place threadIdx = {0, 0, 0}, blockIdx = {0, 0, 0}, blockDim = {1, 1, 1},
                                                   gridDim = {1, 1, 1};
