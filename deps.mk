# What has to be installed: Debian packages, found by header. `make deps` runs by itself
# when something is missing. `make deps SLURM=1`: what tests/long/slurm.sh wants, too.

DEPS_HEADERS := lmdb.h:liblmdb-dev zstd.h:libzstd-dev sentencepiece_processor.h:libsentencepiece-dev \
  dnnl.h:libdnnl-dev pcre2.h:libpcre2-dev utf8proc.h:libutf8proc-dev jansson.h:libjansson-dev \
  xxhash.h:libxxhash-dev zlib.h:zlib1g-dev cmocka.h:libcmocka-dev

# A file a build folder that says the headers are there; deps run when it is missing or this list changed.
DEPS_STAMP := $B/deps
$(DEPS_STAMP): deps.mk
	@mkdir -p $B
	@bash data/deps.sh $(DEPS_HEADERS)
	@touch $@

# With MPI=1 that of mpi.mk too.
deps:
	@SLURM=$(SLURM) bash data/deps.sh $(DEPS_HEADERS)
	@mkdir -p $B && touch $(DEPS_STAMP)
