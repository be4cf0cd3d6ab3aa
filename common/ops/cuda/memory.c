/* Memory of the CUDA backend, and what goes in and out of it: through pinned memory in two halves, so that the host fills or
 * empties one while the device copies the other. */
#include "common/ops/cuda/ops.h"

#include <string.h>

#include "common/base/bf16.h"

void *kf_cuda_op_alloc(kf_exec *x, size_t n, size_t size)
{
	(void)x;
	return size && n > SIZE_MAX / size ? NULL : kf_cuda_device_alloc(n * size);
}

void kf_cuda_op_free(kf_exec *x, void *p)
{
	(void)x;
	kf_cuda_device_free(p);
}

void kf_cuda_op_zero(kf_exec *x, void *p, size_t bytes)
{
	kf_cuda *c = kf_cuda_of(x);

	kf_cuda_note(c, kf_cuda_zero(p, bytes, c->dev.stream), "clearing memory");
}

kf_status kf_cuda_op_memory(kf_exec *x, size_t *left, kf_err *err)
{
	size_t total;

	(void)x;
	return kf_cuda_status(kf_cuda_memory(left, &total), "asking for free memory", err);
}

/* ---- bytes ------------------------------------------------------------------------ */

/* What is copied is `from` as it is, or floats rounded to bfloat16. */
typedef struct {
	const float *from;
	uint16_t *to;
} rounding;

static void round_task(void *arg, size_t begin, size_t end, int worker)
{
	const rounding *r = arg;

	(void)worker;
	kf_round_bf16(r->from + begin, r->to + begin, end - begin);
}

/* count elements of `size` bytes on the device, from bytes of the host or, to_bf16, from floats. */
static kf_status send(kf_exec *x, void *dst, const void *host, size_t count, size_t size, bool to_bf16, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t most = KF_CUDA_BOUNCE / size;
	int code = 0, half = 0;

	for (size_t at = 0; at < count && !code; at += most, half = !half) {
		size_t n = count - at < most ? count - at : most;
		char *pinned = c->bounce + (size_t)half * KF_CUDA_BOUNCE;

		/* the device may be copying the other half, and is done with this one: see the sync below */
		if (to_bf16) {
			rounding r = { (const float *)host + at, (uint16_t *)(void *)pinned };

			kf_pool_split(x->pool, n, 4096, round_task, &r);
		} else {
			memcpy(pinned, (const char *)host + at * size, n * size);
		}
		if (!(code = kf_cuda_sync(c->dev.stream)))
			code = kf_cuda_copy_in((char *)dst + at * size, pinned, n * size, c->dev.stream);
	}
	if (!code) code = kf_cuda_sync(c->dev.stream);   /* the halves are free for whoever is next */
	return kf_cuda_check(c, code, "sending to the device", err);
}

kf_status kf_cuda_op_put(kf_exec *x, void *dst, const void *host, size_t bytes, kf_err *err)
{
	return send(x, dst, host, bytes, 1, false, err);
}

kf_status kf_cuda_op_put_num(kf_exec *x, void *dst, kf_num_type type, const float *host, size_t n, kf_err *err)
{
	return send(x, dst, host, n, kf_num_size(type), type == KF_NUM_BF16, err);
}

/* Copy out in turns: while the host takes one half, the device fills the other. Before the first there is nothing to wait for: whoever
 * used the halves last waited at the end. */
static kf_status fetch(kf_exec *x, void *host, const void *src, size_t count, size_t size, bool from_bf16, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	const size_t most = KF_CUDA_BOUNCE / size;
	size_t done = 0, had = 0;
	int code = 0, half = 0;

	for (size_t at = 0; done < count && !code; half = !half) {
		size_t n = count - at < most ? count - at : most;
		const char *full = c->bounce + (size_t)!half * KF_CUDA_BOUNCE;

		if (had && (code = kf_cuda_sync(c->dev.stream)) != 0) break;
		code = kf_cuda_copy_out(c->bounce + (size_t)half * KF_CUDA_BOUNCE, (const char *)src + at * size, n * size, c->dev.stream);
		if (from_bf16)
			for (size_t i = 0; i < had; i++) ((float *)host)[done + i] = kf_bf16_to_f32(((const uint16_t *)(const void *)full)[i]);
		else
			memcpy((char *)host + done * size, full, had * size);
		done += had;
		at += had = n;
	}
	return kf_cuda_check(c, code, "reading from the device", err);
}

kf_status kf_cuda_op_get(kf_exec *x, void *host, const void *src, size_t bytes, kf_err *err)
{
	return fetch(x, host, src, bytes, 1, false, err);
}

kf_status kf_cuda_op_get_num(kf_exec *x, float *host, const void *src, kf_num_type type, size_t n, kf_err *err)
{
	return fetch(x, host, src, n, kf_num_size(type), type == KF_NUM_BF16, err);
}

kf_status kf_cuda_take(kf_exec *x, const kf_cuda_answer *a, int n, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	size_t all = 0;
	kf_status rc = KF_OK;
	int code = 0;

	for (int i = 0; i < n; i++) all += a[i].bytes;
	if (all > 2 * (size_t)KF_CUDA_BOUNCE) {
		for (int i = 0; i < n && rc == KF_OK; i++) rc = kf_cuda_op_get(x, a[i].host, a[i].src, a[i].bytes, err);
		return rc;
	}
	all = 0;
	for (int i = 0; i < n && !code; all += a[i++].bytes) code = kf_cuda_copy_out(c->bounce + all, a[i].src, a[i].bytes, c->dev.stream);
	if (!code) code = kf_cuda_sync(c->dev.stream);
	all = 0;
	for (int i = 0; i < n && !code; all += a[i++].bytes)
		if (a[i].bytes) memcpy(a[i].host, c->bounce + all, a[i].bytes);
	return kf_cuda_check(c, code, "reading from the device", err);
}
