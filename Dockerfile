# Three stages: wheels are gathered, installed without any index, and copied into an image without build tools.
#
#   docker build -t pg-query-gateway .
#   docker run --rm -v "$PWD/gateway.toml:/etc/gateway/gateway.toml:ro" -v "$PWD/queries:/etc/gateway/queries:ro" \
#       --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:8080:8080 pg-query-gateway
#
# In a container gateway.toml has to bind beyond loopback, for example `bind = "0.0.0.0:8080"`; see deploy/gateway.toml.
# Everything that is written while serving goes to /dev/shm, so the root file system can be read-only.

FROM python:3.13-slim-trixie AS wheels
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
# --only-binary: what has no wheel for this platform fails here, instead of being compiled with what happens to be about.
RUN python -m pip wheel --no-cache-dir --only-binary ":all:" --wheel-dir /wheels .

FROM python:3.13-slim-trixie AS install
# The newest strip will do: nothing of this stage is shipped.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
COPY --from=wheels /wheels /wheels
# Wheels bring debugging symbols and their own tests along: a third of all that is installed.
RUN python -m venv --without-pip /opt/pg-query-gateway \
 && python -m pip --python /opt/pg-query-gateway/bin/python install \
        --no-cache-dir --no-index --find-links /wheels pg-query-gateway \
 && find /opt/pg-query-gateway -name '*.so' -exec strip --strip-debug {} + \
 && find /opt/pg-query-gateway/lib -type d -name tests -prune -exec rm -rf {} +

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="pg-query-gateway" \
      org.opencontainers.image.description="A PostgreSQL connection pool as a service: named queries over JSON HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
# The user has a name only for the tools that look one up; Kubernetes' runAsNonRoot wants the number below.
RUN groupadd --system --gid 10001 gateway \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
COPY --from=install /opt/pg-query-gateway /opt/pg-query-gateway
ENV PATH=/opt/pg-query-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# `gateway serve` reads ./gateway.toml where there is one, and ./queries where it names no other path.
WORKDIR /etc/gateway
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/live', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
