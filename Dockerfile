# One image with server, gateway and operator: docker build -t unimodel . or buildah bud -t unimodel .
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# --remap-path-prefix and fixed packages (Cargo.lock): the same sources give the same programs.
RUN RUSTFLAGS="--remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo=cargo" \
    cargo build --profile image --locked --workspace --bin unimodel-operator --bin unimodel-server --bin unimodel-gateway
RUN scripts/rootfs.sh /rootfs \
 && install -s target/image/unimodel-operator target/image/unimodel-server target/image/unimodel-gateway /rootfs/usr/bin

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="unimodel" \
      org.opencontainers.image.description="Hosts the tasks of one ranking model: operator, model server, gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
ENV PATH=/usr/bin
USER 65532:65532
