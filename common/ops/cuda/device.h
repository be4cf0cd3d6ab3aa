/* The device under the CUDA backend: memory, copies, the stream. device.c has CUDA's runtime behind it; the tests' emulated
 * build (tests/emu) has the host's memory and no stream, so that the rest of the backend runs on a processor.
 *
 * Functions that return int give 0 or CUDA's error code, which kf_cuda_status turns into words. Sizes in bytes.
 */
#ifndef KF_OPS_CUDA_DEVICE_H
#define KF_OPS_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

typedef struct CUstream_st *kf_cuda_stream;

typedef struct {
	kf_cuda_stream stream;
	char name[256];          /* "NVIDIA H100 80GB HBM3" */
	int sm;                  /* compute capability, 10 major + minor */
	int units;               /* multiprocessors */
} kf_cuda_device;

/* Whether there is a device that kf_cuda_device_open would take; says nothing. */
bool kf_cuda_device_present(void);

/* Of the devices CUDA shows (CUDA_VISIBLE_DEVICES chooses) number `which`, counted round. KF_ENOTFOUND where there is none or no driver, KF_EUNSUPPORTED
 * where driver or device are too old; the message says which, and what would do. */
kf_status kf_cuda_device_open(kf_cuda_device *d, int which, kf_err *err) KF_MUST_CHECK;
void kf_cuda_device_close(kf_cuda_device *d);

void *kf_cuda_device_alloc(size_t bytes);       /* NULL: not so much free */
void kf_cuda_device_free(void *p);              /* waits for the device; accepts NULL */
void *kf_cuda_pinned_alloc(size_t bytes);       /* host memory that copies may read and write while the host goes on */
void kf_cuda_pinned_free(void *p);
int kf_cuda_memory(size_t *free, size_t *total);

/* In the order of the stream. Host memory must be pinned, and stay as it is until the stream has passed. */
int kf_cuda_copy_in(void *dst, const void *pinned, size_t bytes, kf_cuda_stream s);
int kf_cuda_copy_out(void *pinned, const void *src, size_t bytes, kf_cuda_stream s);
int kf_cuda_copy(void *dst, const void *src, size_t bytes, kf_cuda_stream s);     /* both on the device */
int kf_cuda_zero(void *p, size_t bytes, kf_cuda_stream s);
int kf_cuda_sync(kf_cuda_stream s);

/* "what: CUDA's words (what to do)", KF_ENOMEM or KF_EIO; KF_OK for 0. */
kf_status kf_cuda_status(int code, const char *what, kf_err *err) KF_MUST_CHECK;

#endif
