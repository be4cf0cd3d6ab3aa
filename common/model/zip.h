/* A zip archive in memory, as PyTorch writes them: its members, each stored as it is, none compressed. */
#ifndef KF_MODEL_ZIP_H
#define KF_MODEL_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"

typedef struct {
	const char *name;        /* in the arena */
	const uint8_t *data;     /* borrowed from the archive */
	uint64_t size;
} kf_zip_member;

/* out (n), by name, in arena. Zip64 as well; the members' ranges are checked and do not overlap. KF_EDATA for damage,
 * KF_EUNSUPPORTED for compressed or encrypted members; path stands for the file in messages. */
kf_status kf_zip_members(const uint8_t *data, size_t size, const char *path, kf_arena *arena,
	const kf_zip_member **out, size_t *n, kf_err *err) KF_MUST_CHECK;
/* NULL when absent. */
const kf_zip_member *kf_zip_find(const kf_zip_member *members, size_t n, const char *name);

#endif
