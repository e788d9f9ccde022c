# One image for every role: millrace ingest, processor, query, proxy, and the operator's commands.
#
# It builds with BuildKit and without, and also where no network is reachable from a build: `make image` hands the
# modules over in vendor/, which Go then uses by itself.
FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$VERSION" \
      -o /out/usr/local/bin/millrace ./deploy/standalone/cmd/millrace \
 && mkdir -p /out/var/lib/millrace/keys /out/var/lib/millrace/blobs \
 && chmod -R 0700 /out/var/lib/millrace

# With a C library: the embedded ClickHouse, which this image does not hold, would be loaded through it.
FROM gcr.io/distroless/base-debian12:nonroot
COPY --from=build /out/usr/local/bin/millrace /usr/local/bin/millrace
# Volumes that are mounted here begin with this owner.
COPY --from=build --chown=65532:65532 /out/var/lib/millrace /var/lib/millrace
ENV MILLRACE_LISTEN=0.0.0.0:8080 \
    MILLRACE_DATA=/var/lib/millrace \
    MILLRACE_KEY_FILE=/var/lib/millrace/keys/key \
    MILLRACE_BLOB=file:///var/lib/millrace/blobs \
    MILLRACE_LOG_FORMAT=json
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=3s --timeout=5s --start-period=2m --retries=5 CMD ["/usr/local/bin/millrace", "health"]
ENTRYPOINT ["/usr/local/bin/millrace"]
CMD ["--help"]
