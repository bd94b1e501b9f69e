# A task on GPU machines: the torch wheels of the lock bring CUDA, the host needs its driver and the NVIDIA container
# toolkit (README.md). Data, runs and downloaded checkpoints are volumes; the arguments of `docker run` are those of make.
# docker/<task>.Dockerfile is this file with the name of the task: after a change `make dockerfiles` writes them anew.
FROM python:3.11.13-slim-bookworm
ARG TASK=qbv

RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 dcase \
 && mkdir --parents /work/data /work/runs /work/cache \
 && chown --recursive dcase:dcase /work
USER dcase
WORKDIR /work

# The environment first: it is made anew only when the lock changes.
COPY --chown=dcase:dcase requirements.txt ./
RUN python -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check uv==0.13.9 \
 && VIRTUAL_ENV=/work/.venv .venv/bin/uv pip sync --no-cache --require-hashes requirements.txt

COPY --chown=dcase:dcase Makefile pyproject.toml LICENSE README.md conftest.py ./
COPY --chown=dcase:dcase docker docker
COPY --chown=dcase:dcase common common
COPY --chown=dcase:dcase ${TASK} ${TASK}
# Newer than the lock and setup.sh: make takes the environment as it is.
RUN touch .venv/.ready

# There is no git in the image: results.json has the revision that the build is told.
ARG REVISION
ENV DCASE_REVISION=${REVISION} DCASE_CACHE=/work/cache
VOLUME ["/work/data", "/work/runs", "/work/cache"]
ENTRYPOINT ["make"]
CMD ["help"]
