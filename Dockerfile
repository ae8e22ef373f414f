# A static trustmirror in an empty image, as a user without rights.
#
#   docker build -t trustmirror .
#   docker run -d --read-only --cap-drop=ALL -p 5000:5000 -v trustmirror:/data trustmirror
#
# It starts with config.example.yaml; mount another over /etc/trustmirror/config.yaml.
# What it keeps is in /data, which user 65532 must be able to write; nothing else is
# written. The same source, GO_IMAGE and build arguments give the same program.

# Any image with Go, a shell and CA certificates will do; one named by its digest
# makes the build repeatable: golang:1.26@sha256:…
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS build
# Where Go modules come from; see `go help goproxy`.
ARG GOPROXY
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
ARG COMMIT=
# The time that files in the image have, in seconds since 1970.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p /out/data /out/root/etc/ssl/certs /out/root/etc/trustmirror && \
    CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= -X main.version=${VERSION} -X main.commit=${COMMIT}" \
      -o /out/root/trustmirror ./cmd/trustmirror && \
    cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/ && \
    cp config.example.yaml /out/root/etc/trustmirror/config.yaml && \
    find /out -exec touch -d "@${SOURCE_DATE_EPOCH}" {} +

FROM scratch
COPY --from=build /out/root/ /
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /
VOLUME /data
EXPOSE 5000
# Asks at port 5001 of loopback, where admin.address is by default and with ":5001"
# too. There is no shell here: another check has to be written as a list, as compose
# and Kubernetes do.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/trustmirror", "healthcheck"]
ENTRYPOINT ["/trustmirror"]
CMD ["serve", "-c", "/etc/trustmirror/config.yaml"]
