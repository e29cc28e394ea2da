# Super Selfish on CPUs: docker build -t super-selfish . && docker run --rm super-selfish list
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY super_selfish super_selfish
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-compile --index-url https://download.pytorch.org/whl/cpu torch torchvision \
    && /venv/bin/pip install --no-cache-dir --no-compile .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 selfish
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH
USER selfish
WORKDIR /home/selfish
ENTRYPOINT ["super-selfish"]
CMD ["--help"]
