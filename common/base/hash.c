#include "common/base/hash.h"

#include <stdio.h>
#include <xxhash.h>

#include "common/base/file.h"

kf_fp kf_fp_of(const void *p, size_t n)
{
	XXH128_hash_t h = XXH3_128bits(p, n);
	kf_fp fp = { h.high64, h.low64 };

	return fp;
}

uint64_t kf_hash64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

kf_status kf_fp_file(const char *path, kf_fp *out, kf_err *err)
{
	kf_map map = { 0 };
	kf_status rc = kf_map_open(&map, path, err);

	if (rc == KF_OK) *out = kf_fp_of(map.data, map.size);
	kf_map_close(&map);
	return rc;
}

void kf_fp_hex(kf_fp fp, char out[KF_FP_HEX])
{
	snprintf(out, KF_FP_HEX, "%016llx%016llx", (unsigned long long)fp.hi, (unsigned long long)fp.lo);
}

bool kf_fp_parse(const char *hex, kf_fp *out)
{
	uint64_t v[2] = { 0, 0 };

	for (int i = 0; i < 32; i++) {
		char c = hex[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (d < 0) return false;
		v[i / 16] = v[i / 16] << 4 | (unsigned)d;
	}
	if (hex[32]) return false;
	out->hi = v[0];
	out->lo = v[1];
	return true;
}

struct kf_hasher {
	XXH3_state_t *state;
};

kf_hasher *kf_hasher_new(void)
{
	kf_hasher *h = kf_zalloc(1, sizeof *h);

	if (!h) return NULL;
	if (!(h->state = XXH3_createState()) || XXH3_128bits_reset(h->state) == XXH_ERROR) {
		kf_hasher_free(h);
		return NULL;
	}
	return h;
}

void kf_hasher_add(kf_hasher *h, const void *p, size_t n)
{
	if (n) XXH3_128bits_update(h->state, p, n);
}

kf_fp kf_hasher_fp(const kf_hasher *h)
{
	XXH128_hash_t v = XXH3_128bits_digest(h->state);
	kf_fp fp = { v.high64, v.low64 };

	return fp;
}

void kf_hasher_free(kf_hasher *h)
{
	if (!h) return;
	XXH3_freeState(h->state);
	kf_free(h);
}
