# make test: everything fast. make test-long: what takes minutes.
test: programs unit
	@bash tests/run.sh $B unit cli fault

test-long: programs unit
	@bash tests/run.sh $B long
