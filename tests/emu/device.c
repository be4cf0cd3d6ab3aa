/* The device of the emulated build: the host's memory, and a stream on which everything has happened at once. */
#include "common/ops/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/emu/emu.h"

enum { FAILED = 719 };   /* cudaErrorLaunchFailure */

static long copies, waits;

long emu_copies(void) { return copies; }
long emu_waits(void) { return waits; }

bool kf_cuda_device_present(void) { return true; }

kf_status kf_cuda_device_open(kf_cuda_device *d, int which, kf_err *err)
{
	const char *memory = getenv("KF_EMU_MEMORY"), *fail_at = getenv("KF_EMU_FAIL_AT");

	(void)which, (void)err;
	if (memory) emu_memory((size_t)strtoull(memory, NULL, 10));
	if (fail_at) emu_fail_at(strtol(fail_at, NULL, 10));
	*d = (kf_cuda_device){ .sm = 80, .units = 1 };
	snprintf(d->name, sizeof d->name, "emulator");
	return KF_OK;
}

void kf_cuda_device_close(kf_cuda_device *d) { (void)d; }
void *kf_cuda_device_alloc(size_t bytes) { return emu_alloc(bytes); }
void kf_cuda_device_free(void *p) { emu_free(p); }
void *kf_cuda_pinned_alloc(size_t bytes) { return kf_alloc(bytes, 1); }
void kf_cuda_pinned_free(void *p) { kf_free(p); }

int kf_cuda_memory(size_t *free, size_t *total)
{
	emu_memory_left(free, total);
	return 0;
}

int kf_cuda_copy_in(void *dst, const void *pinned, size_t bytes, kf_cuda_stream s) { return kf_cuda_copy(dst, pinned, bytes, s); }
int kf_cuda_copy_out(void *pinned, const void *src, size_t bytes, kf_cuda_stream s) { return kf_cuda_copy(pinned, src, bytes, s); }

int kf_cuda_copy(void *dst, const void *src, size_t bytes, kf_cuda_stream s)
{
	(void)s;
	if (!bytes) return 0;
	copies++;
	if (emu_asked("a copy")) return FAILED;
	memcpy(dst, src, bytes);
	return 0;
}

int kf_cuda_zero(void *p, size_t bytes, kf_cuda_stream s)
{
	(void)s;
	if (!bytes) return 0;
	copies++;
	if (emu_asked("clearing memory")) return FAILED;
	memset(p, 0, bytes);
	return 0;
}

int kf_cuda_sync(kf_cuda_stream s)
{
	(void)s;
	waits++;
	return emu_asked("waiting") ? FAILED : 0;
}

kf_status kf_cuda_status(int code, const char *what, kf_err *err)
{
	if (!code) return KF_OK;
	return kf_fail(err, KF_EIO, "%s: the emulated device failed with %d: %s", what, code, emu_error() ? emu_error() : "");
}
