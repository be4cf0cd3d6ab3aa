/* What is in a shard set or a vocabulary map, for people and as JSON Lines. */
#ifndef KF_INSPECT_INSPECT_H
#define KF_INSPECT_INSPECT_H

#include <stdbool.h>
#include <stdio.h>

#include "common/base/status.h"

typedef struct {
	const char *dir; /* a set; or a file: a map (kf-align --map) */
	long doc;      /* one document only, by its number; -1: all of them (json) or a summary */
	bool json;     /* JSON Lines, one object a document */
	bool path;     /* JSON: also what the byte path needs: path_nlm, extra_ids, extra_logprobs */
	bool sizes;    /* bytes a token by plane */
	bool verify;   /* read everything and compare checksums; tells of every shard that is damaged */
	bool repair;   /* verify, and take damaged shards away, so that the command that makes the set makes them again */
} kf_inspect_opts;

/* Writes to out. A reader that closes its end early (| head) is no error. */
kf_status kf_inspect(const kf_inspect_opts *o, FILE *out, kf_err *err) KF_MUST_CHECK;

#endif
