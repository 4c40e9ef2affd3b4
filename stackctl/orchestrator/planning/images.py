"""What to do about each image."""

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.mounts import ImageMount
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning.draft import Work, image_reference
from stackctl.orchestrator.planning.plan import BuildImage, PullImage


def plan_images(work: Work) -> None:
    """Add the pulls and builds that the selected services need."""
    # Those that build come first: others may use the image they make.
    for service in sorted(work.services(), key=lambda item: item.build is None):
        if service.provider is not None:
            continue
        _plan_service_image(work, service)
        for mount in service.volumes:
            if isinstance(mount, ImageMount) and work.observed.image(mount.source) is None:
                _pull(work, mount.source, service, "", "not there")
        for hook in service.pre_start:
            if hook.image and work.observed.image(hook.image) is None:
                _pull(work, hook.image, service, "", "not there")
    _order_builds(work)


def _plan_service_image(work: Work, service: Service) -> None:
    reference = image_reference(work.stack, service)
    if reference in work.images:
        return
    present = work.observed.image(reference)
    known = present.id if present else ""
    policy = work.options.pull or service.pull_policy or "missing"
    if service.build is not None and policy != "always":
        _plan_build(work, service, reference, known, policy)
    elif service.build is not None and not work.options.no_build:
        _build(work, service, reference, known, "pull policy is always", pull=True)
    elif policy == "always":
        _pull(work, reference, service, known, "pull policy is always")
    elif not known:
        if policy == "never":
            raise NotFoundError(
                f"service {service.name!r}: image {reference} is not here, and its pull policy is never"
            )
        if not service.image:
            raise NotFoundError(f"service {service.name!r} has neither an image nor a build")
        _pull(work, reference, service, "", "not there")


def _plan_build(work: Work, service: Service, reference: str, known: str, policy: str) -> None:
    options = work.options
    wanted = options.build or policy == "build"
    if options.no_build:
        if not known and service.image and policy != "never":
            _pull(work, reference, service, "", "not there, and building is off")
        elif not known:
            raise NotFoundError(
                f"service {service.name!r}: image {reference} is not here, and building is off",
                hint="Leave --no-build out, or run stackctl build.",
            )
    elif not known:
        _build(work, service, reference, "", "not there")
    elif wanted:
        _build(work, service, reference, known, "asked for")


def _build(
    work: Work, service: Service, reference: str, known: str, reason: str, *, pull: bool = False
) -> None:
    action = BuildImage(
        name=reference,
        service=service.name,
        present=known,
        pull=pull or bool(service.build and service.build.pull),
        no_cache=work.options.build_no_cache or bool(service.build and service.build.no_cache),
    )
    _remember(work, reference, work.draft.add(action, reason), known)


def _pull(work: Work, reference: str, service: Service, known: str, reason: str) -> None:
    if reference in work.images:
        return
    action = PullImage(
        name=reference, service=service.name, platform=service.platform, present=known
    )
    _remember(work, reference, work.draft.add(action, reason), known)


def _remember(work: Work, reference: str, key: str, known: str) -> None:
    work.images[reference] = key
    if known:
        work.uncertain[reference] = key


def _order_builds(work: Work) -> None:
    """Let a build come after those whose images it takes as an additional context (``service:name``)."""
    for service in work.services():
        key = work.images.get(image_reference(work.stack, service))
        if key is None or service.build is None:
            continue
        for source in service.build.additional_contexts.values():
            other = work.stack.services.get(source.removeprefix("service:"))
            if source.startswith("service:") and other is not None:
                needed = work.images.get(image_reference(work.stack, other))
                if needed:
                    work.draft.follow(key, [needed])
