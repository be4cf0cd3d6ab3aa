/* The device seam without a device: the emulator's memory, and no stream. A copy is done at once. */
#include "common/ops/cuda/device.h"

#include <string.h>

#include "common/base/mem.h"
#include "tests/emu/emu.h"

bool kf_cuda_device_present(void)
{
	return true;
}

kf_status kf_cuda_device_open(kf_cuda_device *d, kf_err *err)
{
	(void)err;
	*d = (kf_cuda_device){ .name = "launch emulator", .sm = 80, .units = 1 };
	return KF_OK;
}

void kf_cuda_device_close(kf_cuda_device *d)
{
	(void)d;
}

void *kf_cuda_device_alloc(size_t bytes)
{
	return emu_alloc(bytes ? bytes : 1);
}

void kf_cuda_device_free(void *p)
{
	emu_free(p);
}

void *kf_cuda_pinned_alloc(size_t bytes)
{
	return kf_alloc(bytes ? bytes : 1, 1);
}

void kf_cuda_pinned_free(void *p)
{
	kf_free(p);
}

int kf_cuda_memory(size_t *free, size_t *total)
{
	*free = *total = (size_t)4 << 30;
	return 0;
}

int kf_cuda_copy_in(void *dst, const void *pinned, size_t bytes, kf_cuda_stream s)
{
	return kf_cuda_copy(dst, pinned, bytes, s);
}

int kf_cuda_copy_out(void *pinned, const void *src, size_t bytes, kf_cuda_stream s)
{
	return kf_cuda_copy(pinned, src, bytes, s);
}

int kf_cuda_copy(void *dst, const void *src, size_t bytes, kf_cuda_stream s)
{
	(void)s;
	if (bytes) memcpy(dst, src, bytes);
	return 0;
}

int kf_cuda_zero(void *p, size_t bytes, kf_cuda_stream s)
{
	(void)s;
	if (bytes) memset(p, 0, bytes);
	return 0;
}

int kf_cuda_sync(kf_cuda_stream s)
{
	(void)s;
	return 0;
}

kf_status kf_cuda_status(int code, const char *what, kf_err *err)
{
	if (!code) return KF_OK;
	return kf_fail(err, KF_EIO, "%s: error %d%s%s", what, code, emu_error() ? ": " : "", emu_error() ? emu_error() : "");
}
