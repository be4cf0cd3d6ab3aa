/* Records of what made a folder: JSON files written whole or not at all, and
 * whether two of them speak of the same work. */
#ifndef KF_BASE_RECORD_H
#define KF_BASE_RECORD_H

#include <jansson.h>

#include "common/base/status.h"

/* Write JSON so that it is there whole or not at all. */
kf_status kf_record_write(const char *path, const json_t *value, kf_err *err) KF_MUST_CHECK;
/* Read one; *out is a new reference, NULL on failure. */
kf_status kf_record_read(const char *path, json_t **out, kf_err *err) KF_MUST_CHECK;

/* Canonical JSON, of which fingerprints are (docs/format.md), to be released with free(); NULL on no memory. Reals are printf's %.17g whatever
 * jansson is used: without being told, newer ones take the shortest form. (Of 1e16 to 1e17 they differ all the same; nothing here is that large.) */
char *kf_record_canonical(const json_t *value);

/* A path as a new reference. It need not be UTF-8, which JSON is: then what is beyond ASCII becomes question marks. */
json_t *kf_record_path(const char *path);

/* A number as a new reference: null where it is not finite, which JSON has no word for. */
json_t *kf_record_number(double v);

/* KF_OK when two records {"options": {...}, "inputs": {...}} agree in both parts; else KF_EMISMATCH: "DIR holds
 * WHAT (--lambda was 0.5 and is 0.9, another model). ADVICE". */
kf_status kf_record_same(const char *dir, const json_t *was, const json_t *is, const char *what, const char *advice,
	kf_err *err) KF_MUST_CHECK;

#endif
