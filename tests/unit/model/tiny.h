/* Every tiny model of the tree, for tests that hold for all. */
#ifndef KF_TESTS_TINY_H
#define KF_TESTS_TINY_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/model/model.h"

enum { TINY_MAX = 96 };

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
} tiny_rig;

static inline int tiny_by_name(const void *a, const void *b) { return strcmp(a, b); }

/* Folders with a config.json and GGUF files under tests/models, in order; returns how many. */
static inline int tiny_models(char path[TINY_MAX][256])
{
	static const char *const in[] = { "tests/models", "tests/models/families" };
	int n = 0;

	for (int k = 0; k < 2; k++) {
		DIR *d = opendir(in[k]);
		struct dirent *e;

		while (d && (e = readdir(d)) && n < TINY_MAX) {
			char config[600];
			size_t len = strlen(e->d_name);
			struct stat st;

			snprintf(config, sizeof config, "%s/%s/config.json", in[k], e->d_name);
			if (stat(config, &st) == 0 || (len > 5 && strcmp(e->d_name + len - 5, ".gguf") == 0))
				snprintf(path[n++], 256, "%s/%.100s", in[k], e->d_name);
		}
		if (d) closedir(d);
	}
	qsort(path, (size_t)n, 256, tiny_by_name);
	return n;
}

static inline void tiny_open(tiny_rig *r, const char *path, const kf_ops *ops, int threads)
{
	kf_model_opts opts = { .resident = true };
	kf_err err;

	if (kf_pool_new(threads, &r->pool, &err) != KF_OK || kf_exec_new(ops, r->pool, KF_COMPUTE_F32, &r->x, &err) != KF_OK ||
	    kf_weights_open(path, &r->w, &err) != KF_OK || kf_model_new(r->w, r->x, &opts, &r->m, &err) != KF_OK)
		fail_msg("%s: %s", path, err.text);
}

static inline void tiny_close(tiny_rig *r)
{
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
}

#endif
