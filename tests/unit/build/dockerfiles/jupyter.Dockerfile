FROM quay.io/jupyter/minimal-notebook:latest
USER root
RUN apt-get update --yes && \
    apt-get install --yes --no-install-recommends \
    # for matplotlib animations
    ffmpeg && \
    apt-get clean
USER ${NB_UID}
RUN mamba install --yes \
    'pandas' \
    'scipy' && \
    fix-permissions "${CONDA_DIR}"
ENV XDG_CACHE_HOME="/home/${NB_USER}/.cache/"
RUN MPLBACKEND=Agg python -c "import matplotlib.pyplot" && \
    fix-permissions "/home/${NB_USER}"
WORKDIR "${HOME}"
