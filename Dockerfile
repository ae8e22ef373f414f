# A static trustmirror in an empty image, as a user without rights.
#
#   docker build -t trustmirror .
#   docker run -p 5000:5000 -v trustmirror:/data trustmirror
#
# It starts with config.example.yaml; mount another over /etc/trustmirror/config.yaml.
# There is no HEALTHCHECK: the image has no program that could ask. /readyz and
# /healthz, at admin.address, are for the orchestrator's own probes.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION= COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/trustmirror ./cmd/trustmirror && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/trustmirror /trustmirror
COPY --from=build --chown=65532:65532 /out/data /data
COPY config.example.yaml /etc/trustmirror/config.yaml
USER 65532:65532
WORKDIR /
VOLUME /data
EXPOSE 5000
ENTRYPOINT ["/trustmirror"]
CMD ["serve", "-c", "/etc/trustmirror/config.yaml"]
