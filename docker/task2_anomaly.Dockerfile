# Task 2 on GPU machines: the torch wheels of the lock bring CUDA, the host needs only its driver and the NVIDIA
# container toolkit. Data, runs and caches are volumes; the arguments of `docker run` are those of make.
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 dcase \
 && mkdir --parents /work/data /work/runs \
 && chown --recursive dcase:dcase /work
USER dcase
WORKDIR /work

# The environment first: it is made anew only when the lock changes.
COPY --chown=dcase:dcase requirements.txt ./
RUN python -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check uv==0.13.9 \
 && VIRTUAL_ENV=/work/.venv .venv/bin/uv pip sync --no-cache --require-hashes requirements.txt

COPY --chown=dcase:dcase Makefile pyproject.toml LICENSE README.md conftest.py ./
COPY --chown=dcase:dcase common common
COPY --chown=dcase:dcase task2_anomaly task2_anomaly
COPY --chown=dcase:dcase tests tests
COPY --chown=dcase:dcase docker docker
COPY --chown=dcase:dcase .ci .ci
# Newer than the lock and setup.sh: make takes the environment as it is.
RUN touch .venv/.ready

VOLUME ["/work/data", "/work/runs"]
ENTRYPOINT ["make"]
CMD ["help"]
