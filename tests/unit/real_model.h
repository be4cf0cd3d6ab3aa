/* Models that may have been fetched: where tests/lib.sh's model() looks for them. */
#ifndef KF_TEST_REAL_MODEL_H
#define KF_TEST_REAL_MODEL_H

#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"

/* The path of NAME.gguf; false: not on this machine. */
static inline bool real_model(const char *name, char path[KF_PATH_MAX])
{
	const char *cache = getenv("KFUSE_CACHE"), *home = getenv("HOME");

	snprintf(path, KF_PATH_MAX, "data/models/%s.gguf", name);
	if (kf_exists(path)) return true;
	if (!cache && !home) return false;
	snprintf(path, KF_PATH_MAX, "%s%s/models/%s.gguf", cache ? cache : home, cache ? "" : "/.cache/kfuse", name);
	return kf_exists(path);
}

#endif
