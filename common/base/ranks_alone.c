/* A build without MPI: every process is alone. */
#include "common/base/ranks.h"

kf_status kf_ranks_open(kf_ranks **out, kf_err *err)
{
	const int n = kf_ranks_launched();

	*out = NULL;
	if (n > 1)
		return kf_fail(err, KF_EUNSUPPORTED, "started as one of %d processes, but this program was built without MPI and would do the "
			"same work %d times. Build it with make MPI=1, or start it once.", n, n);
	return KF_OK;
}

void kf_ranks_close(kf_ranks *r) { (void)r; }

static kf_status none(kf_err *err)
{
	return kf_fail(err, KF_EUNSUPPORTED, "this program was built without MPI");
}

kf_status kf_ranks_share(kf_ranks *r, const void *mine, size_t bytes, void *all, kf_err *err)
{
	(void)r, (void)mine, (void)bytes, (void)all;
	return none(err);
}

kf_status kf_ranks_broadcast(kf_ranks *r, int root, void *p, size_t bytes, kf_err *err)
{
	(void)r, (void)root, (void)p, (void)bytes;
	return none(err);
}

kf_status kf_ranks_sum_parts(kf_ranks *r, float *v, const size_t *begin, kf_err *err)
{
	(void)r, (void)v, (void)begin;
	return none(err);
}

kf_status kf_ranks_gather_parts(kf_ranks *r, char *v, const size_t *begin, int root, kf_err *err)
{
	(void)r, (void)v, (void)begin, (void)root;
	return none(err);
}
