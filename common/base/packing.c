#include "common/base/packing.h"

#include <stdint.h>
#include <string.h>

kf_packing kf_packing_of(const void *p, size_t n)
{
	const uint8_t *b = p;

	if (n >= 2 && memcmp(b, "\x1f\x8b", 2) == 0) return KF_PACKING_GZIP;
	if (n >= 4 && memcmp(b, "\x28\xb5\x2f\xfd", 4) == 0) return KF_PACKING_ZSTD;
	/* a frame to be skipped, which pzstd puts in front (RFC 8878, 3.1.2): the first byte is any from 0x50 to 0x5f */
	if (n >= 4 && b[0] >> 4 == 5 && memcmp(b + 1, "\x2a\x4d\x18", 3) == 0) return KF_PACKING_ZSTD;
	return KF_PACKING_NONE;
}
