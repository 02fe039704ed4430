# docker build -t mmattn .
# docker run --rm --gpus all --shm-size=8g -v "$PWD":/work mmattn train data=folder data.root=videos run=runs/first
# torch's wheels bring their own CUDA libraries: of the base image only the user-space setup for the driver is used.
ARG CUDA=12.8.1
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/mmattn \
    && userdel --remove ubuntu 2>/dev/null; useradd --create-home --uid 1000 mmattn && install -d -o mmattn /work
ENV PATH=/opt/mmattn/bin:$PATH PYTHONUNBUFFERED=1

COPY pyproject.toml constraints.txt README.md /src/
COPY src /src/src
COPY conf /src/conf
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[encoders,captions,slurm]'

USER mmattn
WORKDIR /work
# An image in which anything is wrong is not made. There is no GPU here, and little shared memory: that is the host's.
RUN mmattn doctor shared_gb=0.01 disk_gb=0.1
ENTRYPOINT ["mmattn"]
CMD ["doctor"]
