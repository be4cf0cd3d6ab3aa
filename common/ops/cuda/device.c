/* The device: CUDA's runtime. */
#include "common/ops/cuda/device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>

enum { OLDEST = 80 };   /* compute capability 8.0: the first with bfloat16 */

bool kf_cuda_device_present(void)
{
	int n = 0, major = 0;

	return cudaGetDeviceCount(&n) == cudaSuccess && n > 0 &&
		cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess && major * 10 >= OLDEST;
}

static kf_status no_device(cudaError_t code, kf_err *err)
{
	int driver = 0, runtime = 0;

	cudaDriverGetVersion(&driver);
	cudaRuntimeGetVersion(&runtime);
	switch (code) {
	case cudaErrorInsufficientDriver:
		if (!driver)
			return kf_fail(err, KF_ENOTFOUND, "--backend cuda: there is no NVIDIA driver here (libcuda.so.1). Use --backend cpu.");
		return kf_fail(err, KF_EUNSUPPORTED, "--backend cuda: the driver is for CUDA %d.%d at most, this program was built with "
			"%d.%d. Install a newer driver, or build with an older toolkit (CUDA_HOME).", driver / 1000, driver % 1000 / 10,
			runtime / 1000, runtime % 1000 / 10);
	case cudaSuccess:
	case cudaErrorNoDevice:
		return kf_fail(err, KF_ENOTFOUND, "--backend cuda: CUDA shows no device (CUDA_VISIBLE_DEVICES hides some). "
			"Use --backend cpu.");
	default:
		return kf_fail(err, KF_EIO, "--backend cuda: CUDA does not start: %s (%s)", cudaGetErrorString(code),
			cudaGetErrorName(code));
	}
}

kf_status kf_cuda_device_open(kf_cuda_device *d, int which, kf_err *err)
{
	struct cudaDeviceProp prop;
	cudaError_t st;
	int n = 0;

	*d = (kf_cuda_device){ 0 };
	if ((st = cudaGetDeviceCount(&n)) != cudaSuccess || n == 0)
		return no_device(st, err);
	which %= n;
	/* First the device: flags without one would begin with device 0, in every process. The host sleeps while it waits: its threads have
	 * other work. Where that is refused nothing is lost */
	if ((st = cudaSetDevice(which)) != cudaSuccess || (st = cudaGetDeviceProperties(&prop, which)) != cudaSuccess)
		return no_device(st, err);
	if (cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync) != cudaSuccess) cudaGetLastError();
	snprintf(d->name, sizeof d->name, "%s", prop.name);
	d->sm = 10 * prop.major + prop.minor;
	d->units = prop.multiProcessorCount;
	if (d->sm < OLDEST)
		return kf_fail(err, KF_EUNSUPPORTED, "--backend cuda: %s has compute capability %d.%d; 8.0 or newer is needed. "
			"Use --backend cpu.", d->name, prop.major, prop.minor);
	if ((st = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking)) != cudaSuccess)
		return kf_cuda_status(st, "a stream", err);
	return KF_OK;
}

void kf_cuda_device_close(kf_cuda_device *d)
{
	if (d->stream) cudaStreamDestroy(d->stream);
	d->stream = NULL;
}

void *kf_cuda_device_alloc(size_t bytes)
{
	void *p = NULL;

	if (cudaMalloc(&p, bytes ? bytes : 1) == cudaSuccess) return p;
	cudaGetLastError();   /* this one is told by the NULL: it must not surface at the next launch */
	return NULL;
}

void kf_cuda_device_free(void *p)
{
	if (p) cudaFree(p);
}

void *kf_cuda_pinned_alloc(size_t bytes)
{
	void *p = NULL;

	if (cudaMallocHost(&p, bytes ? bytes : 1) == cudaSuccess) return p;
	cudaGetLastError();
	return NULL;
}

void kf_cuda_pinned_free(void *p)
{
	if (p) cudaFreeHost(p);
}

int kf_cuda_memory(size_t *free, size_t *total)
{
	return cudaMemGetInfo(free, total);
}

int kf_cuda_copy_in(void *dst, const void *pinned, size_t bytes, kf_cuda_stream s)
{
	return bytes ? cudaMemcpyAsync(dst, pinned, bytes, cudaMemcpyHostToDevice, s) : cudaSuccess;
}

int kf_cuda_copy_out(void *pinned, const void *src, size_t bytes, kf_cuda_stream s)
{
	return bytes ? cudaMemcpyAsync(pinned, src, bytes, cudaMemcpyDeviceToHost, s) : cudaSuccess;
}

int kf_cuda_copy(void *dst, const void *src, size_t bytes, kf_cuda_stream s)
{
	return bytes ? cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s) : cudaSuccess;
}

int kf_cuda_zero(void *p, size_t bytes, kf_cuda_stream s)
{
	return bytes ? cudaMemsetAsync(p, 0, bytes, s) : cudaSuccess;
}

int kf_cuda_sync(kf_cuda_stream s)
{
	return cudaStreamSynchronize(s);
}

kf_status kf_cuda_status(int code, const char *what, kf_err *err)
{
	switch (code) {
	case cudaSuccess:
		return KF_OK;
	case cudaErrorMemoryAllocation:
		return kf_fail(err, KF_ENOMEM, "%s: the device is out of memory", what);
	case cudaErrorNoKernelImageForDevice:
	case cudaErrorUnsupportedPtxVersion:
		return kf_fail(err, KF_EUNSUPPORTED, "%s: %s (%s). Build for this device: make CUDA=1 CUDA_ARCHS=...", what,
			cudaGetErrorString(code), cudaGetErrorName(code));
	default:
		return kf_fail(err, KF_EIO, "%s: the device failed: %s (%s). What was finished before stands; run the command again to go on.",
			what, cudaGetErrorString(code), cudaGetErrorName(code));
	}
}
