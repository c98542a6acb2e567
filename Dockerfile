# The image of the controller: one static program, the public CAs, and nothing to run besides. Not more than `make image`
# packs without a Docker daemon: that reads the last stage from here.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION=$(git rev-parse HEAD) .
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN .ci/root --install-cross /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sekuire-policy-controller" \
      org.opencontainers.image.description="Enforces signed policies for AI agents, from a Git repository to a verdict at admission" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/root/ /
# the folder of clones, which is a cache; in a cluster an emptyDir is mounted over it
COPY --from=build --chown=65532:65532 /image/data/ /var/lib/sekuire/
ENV PATH=/ SEKUIRE_REVISION=${REVISION}
USER 65532:65532
WORKDIR /
EXPOSE 9443
ENTRYPOINT ["/sekuire"]
CMD ["controller"]
