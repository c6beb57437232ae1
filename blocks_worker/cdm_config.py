"""Import path of the CDM document."""

from blocks_worker.config import DEFAULT_CDM_URL
from blocks_worker.controlplane.cdm import CdmApiConfig, CdmConfig, CdmKeyset, fetch_cdm_config

__all__ = ["DEFAULT_CDM_URL", "CdmApiConfig", "CdmConfig", "CdmKeyset", "fetch_cdm_config"]
