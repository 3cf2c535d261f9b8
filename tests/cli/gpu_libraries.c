/* NVIDIA's libraries as far as a GPU is opened; nothing can be computed on it. GPU_FAULT names what does not work. */
#include <stdlib.h>
#include <string.h>
static int fault(const char *name) { const char *set = getenv("GPU_FAULT"); return set && !strcmp(set, name); }
#define DOES_NOTHING(name) int name() { return 0; }

#if defined(DRIVER) || defined(DRIVER_WITHOUT_A_FUNCTION)
int cuInit(unsigned flags) { return fault("none") ? 100 : fault("init") ? 999 : fault("stub") ? 34 : 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "a GPU", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
/* Compute capability; no memory pools. */
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (fault("old") ? 5 : 9) : attribute == 76 && fault("old") ? 2 : 0;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (fault("crash")) abort();
    *context = (void *)1;
    return fault("context") ? 2 : 0;
}
int cuModuleLoadData(void **module, const void *image) { *module = (void *)1; return fault("module") ? 209 : 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)1; return 0; }
int cuGetErrorName(int code, const char **text) { *text = "ERROR"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "an error"; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = (size_t)8 << 30; return 0; }
static void *current;
int cuCtxSetCurrent(void *context) { current = context; return 0; }
int cuCtxGetCurrent(void **context) { *context = current; return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)8; return 0; }
DOES_NOTHING(cuDeviceGetDefaultMemPool) DOES_NOTHING(cuDevicePrimaryCtxRelease_v2) DOES_NOTHING(cuStreamSynchronize)
DOES_NOTHING(cuStreamDestroy_v2) DOES_NOTHING(cuStreamBeginCapture_v2) DOES_NOTHING(cuStreamEndCapture)
DOES_NOTHING(cuGraphInstantiateWithFlags) DOES_NOTHING(cuGraphExecDestroy) DOES_NOTHING(cuGraphDestroy)
DOES_NOTHING(cuMemAllocAsync) DOES_NOTHING(cuMemFreeAsync) DOES_NOTHING(cuMemAlloc_v2) DOES_NOTHING(cuMemFree_v2)
DOES_NOTHING(cuMemsetD8Async) DOES_NOTHING(cuMemcpyHtoDAsync_v2) DOES_NOTHING(cuMemcpyDtoHAsync_v2)
DOES_NOTHING(cuMemcpyDtoDAsync_v2) DOES_NOTHING(cuMemPoolSetAttribute) DOES_NOTHING(cuMemPoolGetAttribute)
DOES_NOTHING(cuModuleUnload) DOES_NOTHING(cuLaunchKernel)
#ifdef DRIVER
DOES_NOTHING(cuGraphLaunch)
#endif
#endif

#ifdef NVRTC
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
const char *nvrtcGetErrorString(int code) { return "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"; }
int nvrtcCreateProgram(void **program) { *program = (void *)1; return 0; }
int nvrtcCompileProgram(void *program) { return fault("builtins") ? 7 : 0; }
static const char log[] = "nvrtc: error: failed to open libnvrtc-builtins.so.13.0.";
int nvrtcGetProgramLogSize(void *program, size_t *size) { *size = sizeof log; return 0; }
int nvrtcGetProgramLog(void *program, char *to) { memcpy(to, log, sizeof log); return 0; }
int nvrtcGetCUBINSize(void *program, size_t *size) { *size = 4; return 0; }
int nvrtcGetCUBIN(void *program, char *to) { memcpy(to, "\x7f" "ELF", 4); return 0; }
DOES_NOTHING(nvrtcDestroyProgram)
#endif

#ifdef CUBLASLT
size_t cublasLtGetVersion(void) { return 130000; }
#endif

#if defined(CUDNN) || defined(CUDNN_WITHOUT_A_FUNCTION)
size_t cudnnGetVersion(void) { return 91900; }
int cudnnCreate(void **handle) { *handle = (void *)1; return fault("cudnn") ? 1008 : 0; }
DOES_NOTHING(cudnnDestroy) DOES_NOTHING(cudnnSetStream) DOES_NOTHING(cudnnCreateTensorDescriptor)
DOES_NOTHING(cudnnSetTensor4dDescriptor) DOES_NOTHING(cudnnDestroyTensorDescriptor)
DOES_NOTHING(cudnnCreateFilterDescriptor) DOES_NOTHING(cudnnSetFilter4dDescriptor)
DOES_NOTHING(cudnnDestroyFilterDescriptor) DOES_NOTHING(cudnnCreateConvolutionDescriptor)
DOES_NOTHING(cudnnSetConvolution2dDescriptor) DOES_NOTHING(cudnnSetConvolutionMathType)
DOES_NOTHING(cudnnDestroyConvolutionDescriptor) DOES_NOTHING(cudnnGetConvolutionForwardAlgorithm_v7)
DOES_NOTHING(cudnnGetConvolutionBackwardDataAlgorithm_v7) DOES_NOTHING(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
DOES_NOTHING(cudnnConvolutionBackwardData) DOES_NOTHING(cudnnConvolutionBackwardFilter)
#ifdef CUDNN
DOES_NOTHING(cudnnConvolutionForward)
#endif
#endif
