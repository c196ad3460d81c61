# syntax=docker/dockerfile:1
# The data plane in a small image:
#   docker build -t aivonx .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/config/docker:/etc/aivonx:ro" aivonx
# In a container loopback is the container's own, so aivonx listens on 0.0.0.0 there, and fleet.yaml has to say
# `anonymous: always`. What keeps strangers out is the published port: 127.0.0.1:8000, as above.

FROM rust:1.95-bookworm AS build
# What script/bootstrap run would install.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The toolchain is the image's own; rust-toolchain.toml would download it again, with rustfmt and clippy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    rm -f rust-toolchain.toml \
    && cargo build --release --locked --bin aivonx \
    && install -D -m 0755 target/release/aivonx /out/aivonx

FROM debian:bookworm-slim
# Authorities for nodes behind https.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin aivonx
COPY --from=build /out/aivonx /usr/local/bin/aivonx
USER 10001:10001
# The operations listener stays on the container's loopback: the health check asks it from inside.
# To scrape it from elsewhere set AIVONX_PROXY__OPS_LISTEN=0.0.0.0:8002 on a private network.
ENV AIVONX_PROXY__LISTEN=0.0.0.0:8000 \
    AIVONX_PROXY__OPS_LISTEN=127.0.0.1:8002
EXPOSE 8000 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["aivonx", "healthcheck"]
ENTRYPOINT ["aivonx"]
CMD ["proxy", "--fleet", "/etc/aivonx/fleet.yaml"]
