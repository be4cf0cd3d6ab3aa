/* Reading LMDB files that may lie: every page number, offset and count is checked
 * against the bytes at hand. liblmdb itself trusts its files and would fault on a damaged
 * one. Of the format (data version 1, 64-bit little-endian) this reads what shards use: the main database,
 * plain leaves, branches and overflow pages. */
#ifndef KF_STORE_MDB_WALK_H
#define KF_STORE_MDB_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

typedef struct {
	const uint8_t *key, *value; /* borrowed from the file's bytes */
	size_t key_size, value_size;
} kf_mdb_item;

/* Call fn for every item of the main database in key order; stops when fn fails. Keys not in ascending
 * order, or anything else out of place: KF_EDATA. */
kf_status kf_mdb_walk(const uint8_t *data, size_t size,
	kf_status (*fn)(void *arg, const kf_mdb_item *item, kf_err *err), void *arg, kf_err *err) KF_MUST_CHECK;

#endif
